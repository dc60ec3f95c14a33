"""Other exporters of the same models, asked for what they have counted, which is added up here.

Each answer holds all that its exporter counts, so nothing is lost or doubled when one is missed. An exporter that does
not answer counts with what it told last.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.settings.sources import ReplicasSettings, SourceSettings
from mlops_exporter.sources.base import Health, Sink
from mlops_exporter.sources.calls import CallError, call, in_thread

LARGEST_ANSWER = 1024 * 1024 * 1024
"""Bytes, decompressed."""

_log = logging.getLogger(__name__)


class Replicas:
    """The exporters at some addresses."""

    def __init__(self, name: str, settings: ReplicasSettings) -> None:
        self.name = name
        self.health = Health(False)
        self._settings = settings

    async def run(self, sink: Sink) -> None:
        """Ask all of them again and again until cancelled."""
        while True:
            faults: dict[str, str] = {}
            answers = await asyncio.gather(*(self._ask(url, faults) for url in self._settings.urls))
            faults |= await sink.add_up(dict(zip(self._settings.urls, answers, strict=True)))
            error = "; ".join(f"{url}: {why}" for url, why in sorted(faults.items())) or None
            if error is not None and error != self.health.error:
                _log.warning("source %s: %s", self.name, error)
            self.health = Health(error is None, None, error)
            await asyncio.sleep(self._settings.interval)

    async def _ask(self, url: str, faults: dict[str, str]) -> bytes:
        """Return what an exporter has counted; nothing where it does not tell, and why among the faults."""
        settings = self._settings
        ask = partial(
            call,
            "GET",
            f"{url}/v1/ledgers",
            settings,
            headers={"Accept-Encoding": "gzip"},
            timeout=settings.timeout,
            largest=LARGEST_ANSWER,
        )
        try:
            return (await in_thread(ask)).body
        except CallError as error:
            faults[url] = str(error)
            return b""


def make(settings: SourceSettings, profiles: Mapping[str, Profiles | Profile]) -> Replicas:
    """Return the source that these settings describe."""
    assert settings.replicas is not None
    return Replicas(settings.name, settings.replicas)
