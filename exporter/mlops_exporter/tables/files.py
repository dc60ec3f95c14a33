"""Where the files of a table are: a path, a glob, a directory, several of them; here or in an object store.

A place may begin with `s3://`, `gs://` or `abfs://`; credentials come from where the stores' own tools take them.
Directories may be partitioned like `day=2026-11-01/part.parquet`: the parts of the path are columns then.
"""

import fnmatch
import hashlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from mlops_exporter.tables.errors import TableError

if TYPE_CHECKING:
    import pyarrow.fs

Format = Literal["csv", "ndjson", "parquet", "arrow"]

FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_COMPRESSED: dict[Format, tuple[str, ...]] = {"csv": (".gz", ".bz2", ".zst"), "ndjson": (".gz", ".bz2", ".zst")}
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HADOOP = re.compile(r"^s3[an]://")  # as Spark and Hadoop call S3
_WILD = re.compile(r"[*?\[]")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_NAMES = "name it .csv or .ndjson (either with .gz), .parquet or .arrow"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a table. `place` is how the user would name it, `partitions` the columns that its path gives.

    `companion` is the file of the outputs to its inputs, where a platform writes two.
    """

    filesystem: "pyarrow.fs.FileSystem"
    path: str
    place: str
    format: Format
    size: int
    modified: float
    partitions: dict[str, str | None]
    companion: "File | None" = None

    @property
    def compressed(self) -> bool:
        """Whether its bytes are to be decompressed while they are read."""
        return self.path.lower().endswith(_COMPRESSED.get(self.format, ("\0",)))

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine."""
        return str(self.filesystem.type_name) == "local"

    def stream(self) -> Any:
        """Open it for reading from its beginning, decompressed."""
        return self.filesystem.open_input_stream(self.path, compression="detect" if self.compressed else None)

    def digest(self) -> str:
        """Return the SHA-256 of its bytes as they are stored."""
        found = hashlib.sha256()
        with self.filesystem.open_input_stream(self.path, compression=None) as file:
            while data := file.read(1 << 20):
                found.update(data)
        return found.hexdigest()


def find(places: Sequence[str]) -> list[File]:
    """Return the files of all places, each once, those of a place in the order of their paths.

    Raises TableError where a place has none, or a named file has a format that cannot be told.
    """
    needs_pyarrow()
    found: dict[str, File] = {}
    for place in places:
        for file in _of(place):
            found.setdefault(file.place, file)
    return list(found.values())


def needs_pyarrow() -> None:
    """Raise TableError where pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise TableError("reading tables needs pyarrow: pip install 'mlops-exporter[tables]'")


def _of(place: str) -> list[File]:
    import pyarrow.fs as fs

    filesystem, prefix, path = _filesystem(place)
    try:
        if wild := _WILD.search(path):
            root = path[: wild.start()].rpartition("/")[0]
            selector = fs.FileSelector(root or "/", recursive=True, allow_not_found=True)
            infos = [info for info in filesystem.get_file_info(selector) if _matches(info.path, path)]
            root_length = 0
        else:
            infos = [filesystem.get_file_info(path)]
            root_length = len(path)
            if infos[0].type == fs.FileType.Directory:
                selector = fs.FileSelector(path, recursive=True)
                infos = [info for info in filesystem.get_file_info(selector) if _is_data(info.path[root_length:])]
            elif infos[0].type == fs.FileType.File and _format(path) is None:
                raise TableError(f"{place}: cannot tell its format; {_NAMES}")
    except OSError as error:
        raise TableError(f"{place}: {_reason(error)}") from error
    infos = sorted((info for info in infos if info.type == fs.FileType.File), key=lambda info: info.path)
    files = [
        File(filesystem, info.path, prefix + info.path, form, info.size or 0, _modified(info), _partitions(info.path))
        for info in infos
        if (form := _format(info.path)) is not None
    ]
    if not files:
        what = "no file matches" if _WILD.search(path) else "no such file, nor a directory with files"
        raise TableError(f"{place}: {what}; {_NAMES}")
    return files


def _filesystem(place: str) -> tuple["pyarrow.fs.FileSystem", str, str]:
    """Return the file system, what stands before its paths, and the path of the place."""
    import os

    import pyarrow as pa
    import pyarrow.fs as fs

    place = _HADOOP.sub("s3://", place)
    scheme = _REMOTE.match(place)
    if scheme is None:
        path = os.path.abspath(os.path.expanduser(place))  # noqa: PTH100, PTH111 - a glob, not a path
        return fs.LocalFileSystem(), "", path
    head, mark, options = place.partition("?") if "=" in place else (place, "", "")
    try:
        # A glob's marks are no part of a URI, so that only what stands before them goes through the parser.
        wild = _WILD.search(head)
        stem = head[: wild.start()] if wild else head
        filesystem, path = fs.FileSystem.from_uri(stem.rstrip("/") + mark + options)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise TableError(f"{place}: {_reason(error)}") from error
    rest = head[len(stem) :] if wild else ""
    separator = "/" if wild and stem.endswith("/") else ""
    return filesystem, "" if scheme[0] == "file://" else scheme[0], path + separator + rest


def _matches(path: str, pattern: str) -> bool:
    """Return whether a path matches a glob: `*` stays within a directory, `**` does not."""
    parts = ["(?:[^/]+/)*" if part == "**" else _segment(part) + "/" for part in pattern.split("/")]
    return re.fullmatch("".join(parts), path + "/") is not None


def _segment(part: str) -> str:
    """Return the regular expression of a glob's part without slashes."""
    return fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z").removesuffix(r")\z").replace(".*", "[^/]*")


def _is_data(inside: str) -> bool:
    """Return whether a file in a directory belongs to its table: no part of its path is hidden, nor a log of it."""
    return not any(part.startswith((".", "_")) and "=" not in part for part in inside.strip("/").split("/"))


def _format(path: str) -> Format | None:
    name = path.rsplit("/", 1)[-1].lower()
    stem, dot, last = name.rpartition(".")
    if dot + last in (".gz", ".bz2", ".zst"):
        form = FORMATS.get("." + stem.rpartition(".")[2])
        return form if form in _COMPRESSED else None
    return FORMATS.get(dot + last)


def _partitions(path: str) -> dict[str, str | None]:
    pairs = [part.partition("=") for part in path.split("/")[:-1]]
    return {
        unquote(name): None if value == _NULL_PARTITION else unquote(value)
        for name, mark, value in pairs
        if mark and name
    }


def _modified(info: Any) -> float:
    return info.mtime.timestamp() if info.mtime is not None else 0.0


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def names_of(files: Sequence[File]) -> str:
    """Return how a table is called in messages and profiles: its file, or the first one and how many more."""
    places = [file.place.rsplit("/", 1)[-1] for file in files]
    return places[0] if len(places) == 1 else f"{places[0]} and {len(places) - 1} more files"
