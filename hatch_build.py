"""Gives the long description links that lead somewhere outside the repository, too: to the tag of its version."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_IMAGE = re.compile(r"(!\[[^\]]*\]\()(?![a-z]+:|#)")
_LINK = re.compile(r"(?<!!)(\[(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*\]\()(?![a-z]+:|#)")


class LongDescription(MetadataHookInterface):
    """The README, whose relative links have become absolute ones."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put it into the metadata."""
        root = Path(self.root)
        package = (root / "exporter" / "mlops_exporter" / "__init__.py").read_text(encoding="utf-8")
        version = re.findall('^__version__ = "(.*)"$', package, re.MULTILINE)[0]
        home = metadata["urls"]["Homepage"]
        text = (root / "README.md").read_text(encoding="utf-8")
        text = _IMAGE.sub(rf"\g<1>{home}/raw/v{version}/", text)
        text = _LINK.sub(rf"\g<1>{home}/blob/v{version}/", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
