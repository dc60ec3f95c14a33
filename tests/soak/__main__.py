"""Run the soak: `python -m tests.soak --minutes 15`; with `--write`, its tables go into docs/reliability.md."""

import argparse
import functools
import sys
import tempfile
from pathlib import Path

from tests.soak.run import soak

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- soak: begin -->", "<!-- soak: end -->"
LONGEST = 18.0


def written(document: str, tables: str) -> str:
    """Return the document with the tables between its markers."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables}{END}{after}"


def main() -> int:
    """Run it; returns 1 when anything was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=15.0, help=f"how long, up to {LONGEST:g} (default 15)")
    parser.add_argument("--seed", type=int, default=1, help="another order of the faults (default 1)")
    parser.add_argument("--write", action="store_true", help=f"write the tables to {DOCUMENT.name}")
    options = parser.parse_args()
    if not 0 < options.minutes <= LONGEST:
        parser.error(f"--minutes: write a number above 0 and up to {LONGEST:g}")
    with tempfile.TemporaryDirectory() as directory:
        progress = functools.partial(print, flush=True)
        report = soak(Path(directory), 60 * options.minutes, progress, seed=options.seed)
    print(report.tables())
    faults = report.judge()
    print("\n".join(["not good:", *faults] if faults else ["nothing lost, nothing doubled, nothing grew"]))
    if options.write and not faults:
        DOCUMENT.write_text(written(DOCUMENT.read_text(), report.tables()))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
