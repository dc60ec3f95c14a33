"""Where the profiles of a model's versions come from: a directory, files by name, or a provider under a scheme."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mlops_exporter.events.schema import DEFAULT_VERSION
from mlops_exporter.profile.profile import Profile, ProfileError, load


@dataclass(frozen=True, slots=True)
class Found:
    """Profiles by version.

    `files` are those of a directory by version, any of which may be left out for its faults, as those in `broken` are.
    """

    profiles: dict[str, Profile]
    files: dict[str, str] = field(default_factory=dict)
    broken: dict[str, list[str]] = field(default_factory=dict)


class Provider(Protocol):
    """Gives the profiles of a model's versions."""

    def profiles(self) -> Found:
        """Return the profiles by version. Raises ProfileError, which says what would be right."""
        ...

    def state(self) -> Hashable:
        """Return what changes whenever `profiles` would return others; never fails."""
        ...


SCHEMES: dict[str, Callable[[str], Provider]] = {}
"""What makes a provider of a setting that begins with a scheme like `mlflow:`."""


def provider_of(setting: object, directory: Path) -> Provider | None:
    """Return what gives the profiles of a setting as it was written, None for one of no use."""
    if isinstance(setting, Mapping):
        return Files({str(version): directory / str(path) for version, path in setting.items()})
    if not isinstance(setting, str):
        return None
    scheme = next((scheme for scheme in SCHEMES if setting.startswith(scheme)), None)
    return Directory(directory / setting) if scheme is None else SCHEMES[scheme](setting)


class Files:
    """Profiles by version, each in a file."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths

    def profiles(self) -> Found:
        """Return the profiles by version."""
        if not self._paths:
            raise ProfileError("no profile is named: give one for each version")
        return Found({version: load(path) for version, path in self._paths.items()})

    def state(self) -> Hashable:
        """Return what changes with any of the files."""
        return tuple((version, _stamp(path)) for version, path in self._paths.items())


class Directory:
    """One file per version. The version stands in it; in one that was built without, it is the file's name.

    A file that is of no use is left out, and harms no other version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def _files(self) -> list[Path]:
        """Return the profiles, but for hidden files, in which they are written."""
        try:
            return sorted(path for path in self._path.iterdir() if path.suffix == ".json" and path.name[0] != ".")
        except OSError as error:
            raise ProfileError(
                f"{self._path}: {error.strerror}; name a directory with a profile per version"
            ) from error

    def profiles(self) -> Found:
        """Return the profiles by version, but for files of no use, unless all of them are."""
        found = Found({})
        for path in self._files():
            try:
                profile = load(path)
                version = profile.provenance.model_version
                if version in ("", DEFAULT_VERSION):
                    version = path.stem
                if version in found.files:
                    raise ProfileError(
                        f"{path}: is of version {version}, like {found.files[version]}; keep one of them"
                    )
            except ProfileError as error:
                found.broken[str(path)] = [str(error)]
            else:
                found.profiles[version] = profile
                found.files[version] = str(path)
        if not found.profiles:
            faults = [fault for faults in found.broken.values() for fault in faults]
            remedy = f"make one: mlops-exporter profile build --output {self._path}/1.json"
            raise ProfileError("; ".join(faults) or f"{self._path}: holds no profile; {remedy}")
        return found

    def state(self) -> Hashable:
        """Return what changes with any of the files."""
        try:
            return tuple((path.name, _stamp(path)) for path in self._files())
        except ProfileError as error:
            return str(error)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does, None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
