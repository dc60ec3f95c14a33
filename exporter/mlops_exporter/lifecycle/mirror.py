"""A registered model's profiles in a directory: VERSION.json each, and that of each alias as aliases/ALIAS.json.

So a server that is away changes nothing: the last profiles stay, also over a restart. A profile of a version that lost
its alias stays, too, for the labels that are still to come, until there are more than `keep`.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mlops_exporter.lifecycle.mlflow import MissingError, Mlflow, Registered, RegistryError, Version, followed
from mlops_exporter.profile.profile import ProfileError, load, save
from mlops_exporter.settings.registry import MlflowSettings

TAG = "mlops.state"

_log = logging.getLogger(__name__)


class Mirror:
    """The profiles of one model. `metrics` names the run's metric behind a reference performance, by our metric."""

    def __init__(
        self,
        model: str,
        registered: str,
        settings: MlflowSettings,
        directory: Path,
        metrics: Mapping[str, str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.model = model
        self.registered = registered
        self.settings = settings
        self.directory = directory
        self.metrics = dict(metrics)
        self.up: bool | None = None
        self.last_success: float | None = None
        self.failures = 0
        self.aliases: Mapping[str, str] = {}
        self.versions: Sequence[str] = []
        self._server = Mlflow(settings)
        self._now = now
        self._without: dict[str, float] = {}
        """When a version was last found to have no profile yet: it may be logged after it is registered."""
        self._written: dict[str, str] = {}
        self._said: set[str] = set()

    def refresh(self) -> bool:
        """Ask the registry and fetch what is new; returns whether a profile came or went. Blocks; raises nothing."""
        try:
            found = self._server.registered(self.registered)
            changed = self._fetch(found)
        except (RegistryError, ProfileError, OSError) as error:
            self.up = False
            self.failures += 1
            self._say(f"model {self.model}: the registry cannot be asked: {error}")
            return False
        if self.up is False:
            _log.info("model %s: the registry answers again", self.model)
        self.up = True
        self._said.clear()
        self.last_success = self._now()
        self.aliases = found.aliases
        return changed

    def write_state(self, states: Mapping[str, str]) -> None:
        """Write verdicts back as tags of the versions, those that changed, with the time. Blocks; raises nothing."""
        when = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds")
        for version, state in states.items():
            if version in self.versions and self._written.get(version) != state:
                try:
                    self._server.tag(self.registered, version, TAG, f"{state} since {when}")
                    self._written[version] = state
                except RegistryError as error:
                    self._say(f"model {self.model}: the verdict cannot be written to the registry: {error}")

    def _fetch(self, found: Registered) -> bool:
        self.directory.mkdir(parents=True, exist_ok=True)
        wanted = followed(found, self.settings.follow, self.settings.keep)
        changed = False
        for version in wanted:
            place = self._place(version)
            if not place.exists():
                changed |= self._add(version, place)
        there = [version for version in found.versions if self._place(version).exists()]
        self.versions = [version.version for version in there]
        for alias, aim in found.aliases.items():
            changed |= self._point(alias, aim)
        return self._drop(found, {version.version for version in wanted}) or changed

    def _add(self, version: Version, place: Path) -> bool:
        """Fetch the profile of a version; False when its run has none (yet)."""
        if not version.run_id:
            self._say(f"model {self.model}: version {version.version} was registered without a run: no profile")
            return False
        try:
            content = self._server.artifact(version.run_id, self.settings.artifact)
        except MissingError:
            self._say(
                f"model {self.model}: run {version.run_id} of version {version.version} has no artifact "
                f"{self.settings.artifact}; put it there: mlops-exporter profile build --log-to-run={version.run_id}"
            )
            return False
        fresh = place.with_suffix(".new")
        fresh.write_bytes(content)
        try:
            profile = load(fresh)
            profile.provenance.model_version = version.version
            if self.metrics:
                logged = self._server.run(version.run_id).metrics
                known = {ours: logged[theirs] for ours, theirs in self.metrics.items() if theirs in logged}
                profile.performance.update(known)
            save(profile, fresh)
            fresh.replace(place)
        except ProfileError as error:
            self._say(f"model {self.model}: version {version.version}: {error}")
            return False
        finally:
            fresh.unlink(missing_ok=True)
        _log.info("model %s: the profile of version %s came from the registry", self.model, version.version)
        return True

    def file(self, alias: str) -> Path:
        """Return where the profile of an alias lies."""
        return self.directory / "aliases" / f"{alias}.json"

    def _point(self, alias: str, version: str) -> bool:
        """Let the file of an alias be the profile of its version; returns whether it was another."""
        place, profile = self.file(alias), self.directory / f"{version}.json"
        if not profile.exists() or not alias.replace("-", "").replace("_", "").replace(".", "").isalnum():
            return False
        content = profile.read_bytes()
        if place.exists() and place.read_bytes() == content:
            return False
        place.parent.mkdir(exist_ok=True)
        fresh = place.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(place)
        return True

    def _drop(self, found: Registered, wanted: set[str]) -> bool:
        """Drop profiles beyond `keep`, never one that is wanted."""
        order = {version.version: number for number, version in enumerate(found.versions)}
        kept = sorted(self.directory.glob("*.json"), key=lambda path: order.get(path.stem, len(order)))
        spare = [path for path in kept if path.stem not in wanted]
        gone = spare[max(0, self.settings.keep - len(kept) + len(spare)) :]
        for path in gone:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        return bool(gone)

    def _place(self, version: Version) -> Path:
        if not version.version.isalnum():
            raise RegistryError(f"version {version.version!r} is no number")
        return self.directory / f"{version.version}.json"

    def _say(self, message: str) -> None:
        """Log a message once until all is well again."""
        if message not in self._said:
            self._said.add(message)
            _log.warning("%s", message)
