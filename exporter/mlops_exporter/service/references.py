"""Where the profiles of a model's versions come from: a directory, files by name, or a provider under a scheme."""

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Protocol

from mlops_exporter.events.schema import DEFAULT_VERSION
from mlops_exporter.profile.profile import Profile, ProfileError, load


class Provider(Protocol):
    """Gives the profiles of a model's versions."""

    def profiles(self) -> dict[str, Profile]:
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

    def profiles(self) -> dict[str, Profile]:
        """Return the profiles by version."""
        if not self._paths:
            raise ProfileError("no profile is named: give one for each version")
        return {version: load(path) for version, path in self._paths.items()}

    def state(self) -> Hashable:
        """Return what changes with any of the files."""
        return tuple((version, _stamp(path)) for version, path in self._paths.items())


class Directory:
    """One file per version. The version stands in it; in one that was built without, it is the file's name."""

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

    def profiles(self) -> dict[str, Profile]:
        """Return the profiles by version."""
        found: dict[str, tuple[Path, Profile]] = {}
        for path in self._files():
            profile = load(path)
            version = profile.provenance.model_version
            if version in ("", DEFAULT_VERSION):
                version = path.stem
            if version in found:
                raise ProfileError(f"{path}: is of version {version}, like {found[version][0]}; keep one of them")
            found[version] = path, profile
        if not found:
            raise ProfileError(
                f"{self._path}: holds no profile; make one: mlops-exporter profile build --output {self._path}/1.json"
            )
        return {version: profile for version, (_, profile) in found.items()}

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
