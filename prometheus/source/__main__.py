"""Write prometheus/rules and prometheus/tests. With --accept, take the descriptions that promtool renders as right."""

import argparse
from pathlib import Path

from prometheus.source.render import rule_files

RULES = Path(__file__).parent.parent / "rules"


def main() -> None:
    """Write the files."""
    argparse.ArgumentParser(prog="python -m prometheus.source", description=__doc__).parse_args()
    for name, text in rule_files().items():
        (RULES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
