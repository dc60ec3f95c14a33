"""Labels that tell environments apart, kept in grafana/environment.yml."""

import re
from pathlib import Path

import yaml

FILE = Path(__file__).parent.parent / "environment.yml"


def read(file: Path = FILE) -> tuple[str, ...]:
    """Return the labels of the file; raises ValueError for what is no list of label names."""
    labels = yaml.safe_load(file.read_text(encoding="utf-8"))["labels"]
    if not isinstance(labels, list) or not all(re.fullmatch(r"[a-zA-Z_]\w*", str(label)) for label in labels):
        raise ValueError(f"{file.name}: labels must be a list of label names, like [cluster, namespace]")
    return tuple(labels)


LABELS = read()
