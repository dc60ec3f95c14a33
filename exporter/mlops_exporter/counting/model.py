"""A watched model at run time: its references and versions, and the join of predictions with their labels."""

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import compress, pairwise
from typing import Any

import numpy as np

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.counting.challenge import Challenge
from mlops_exporter.counting.join import CLOSED, GivenUp, Join, Pairs, Transfer, some
from mlops_exporter.counting.joins import Joins
from mlops_exporter.counting.keys import Keys, combined, hash_ids
from mlops_exporter.counting.late import LateOutcomes, Rated
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.counting.multivariate import Vectors
from mlops_exporter.counting.partial import PartialLedger, narrowest
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.rhythm import Rhythm, reaches
from mlops_exporter.counting.shown import Shown
from mlops_exporter.counting.stored import StoredModel, StoredVersion, codes_of, columns_of, read_state
from mlops_exporter.counting.version import Version
from mlops_exporter.counting.versions import Versions
from mlops_exporter.counting.windows import PANES
from mlops_exporter.events import clock
from mlops_exporter.events.columns import Columns, Encoded, Origins
from mlops_exporter.events.forecasts import Target
from mlops_exporter.events.schema import DEFAULT_VERSION, Outcomes, Schema
from mlops_exporter.profile.lists import resized
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles, as_profiles, decoded, unreferenced
from mlops_exporter.profile.values import floats
from mlops_exporter.settings.models import Limits, ModelSettings

CHALLENGE_EVENTS = 100_000
"""Labelled events of one version that wait for the other version's."""

COUNTS = ("labels_unmatched", "labels_duplicate", "labels_corrected", "predictions_duplicate")

_log = logging.getLogger(__name__)

_NO_LABELS = np.empty(0)


class Model:
    """Counts the events of one configured model. Not thread-safe: the event loop alone touches it.

    Every version is counted by its own reference: that of its own profile, otherwise that of the profile which
    versions share, otherwise one that compares with nothing.
    """

    def __init__(self, settings: ModelSettings, profiles: Profiles | Profile, limits: Limits) -> None:
        self.settings = settings
        self.profiles = as_profiles(profiles)
        self._limits = limits
        self.references: list[Reference] = []
        """Those of the configuration, and of former profiles on which versions still rest."""
        self._refer(())
        challenge = settings.challenge
        self.versions = Versions(
            settings.name,
            limits.versions,
            self._begin,
            self._shows,
            lambda version: self._waits_here(version) > 0,
            (challenge.champion, challenge.challenger) if challenge else (),
        )
        self.joins = self._joins()
        self.late = self._late()
        self.shown = self._shown()
        """Lists that are not final, of a model that ranks."""
        self.challenge = (
            Challenge(
                challenge.champion,
                challenge.challenger,
                [self.reference_of(name).profile for name in (challenge.champion, challenge.challenger)],
                settings.windows,
                min(limits.remembered_labels, CHALLENGE_EVENTS),
                Rhythm.of(settings),
            )
            if challenge
            else None
        )
        self.labels_unmatched = 0
        self.labels_duplicate = 0
        self.labels_corrected = 0
        self.predictions_duplicate = 0
        self.given_up: dict[str, int] = {}
        """Predictions without label of the last versions that are gone, by name: a counter must not vanish."""
        self.waiting_elsewhere: dict[str, int] = {}
        """Predictions that wait for their label in exporters that are added up here, by version."""
        self.seed = 0
        """Seed of the hash of ids: kept with the state, and unknown to whoever chooses ids."""
        self._reaches = reaches(settings)
        self._pane_width = min(self._reaches) / PANES
        self._now = -math.inf

    def _refer(self, former: Sequence[tuple[str, Profile]]) -> None:
        """Make the references: of the configured profiles, and of `former` ones that versions still rest on."""
        profiles = self.profiles
        shared = profiles.shared or unreferenced(profiles.newest)
        self.outcomes = Outcomes.of([*profiles, *(profile for _, profile in former)])
        wanted: list[tuple[str | None, Profile, bool]] = [
            (None, shared, False),
            *((version, profile, False) for version, profile in profiles.by_version.items()),
            *((version, profile, True) for version, profile in former),
        ]
        features = {name for _, profile, _ in wanted for name in (*profile.features, *profile.embeddings)}
        known = {
            reference.version: reference
            for reference in self.references
            if reference.outcomes == self.outcomes and reference.schema.known == features
        }
        self.references = [
            known.get(version)
            or Reference(self.settings, profile, self._limits, self.outcomes, features, version, retired=retired)
            for version, profile, retired in wanted
        ]
        self._by_version = {reference.version: reference for reference in self.references}
        self._width = max(reference.layout.output_width for reference in self.references)

    def _joins(self) -> Joins:
        settings, limits = self.settings, self._limits
        ttl, most, remembered = settings.label_ttl, limits.pending_predictions, limits.remembered_labels
        return Joins(
            lambda width=self._width: Join(width, limits.versions, ttl, most, remembered),
            settings.challenge.challenger if settings.challenge else None,
            ahead=settings.task == "forecast",
        )

    def _late(self) -> LateOutcomes:
        limits, counts = self._limits, self.reference.outcome_counts
        several = max(len(counts), 1)
        return LateOutcomes(
            {each.outcome: each for each in counts},
            lambda: Join(
                0,
                limits.versions,
                self.settings.label_ttl,
                max(limits.pending_predictions // several, 1),
                limits.remembered_labels // several,
            ),
        )

    def _shown(self) -> Shown | None:
        if self.settings.task != "ranking":
            return None
        limits = self._limits
        length = max(reference.profile.ranking.length for reference in self.references if reference.profile.ranking)
        return Shown(length, limits.versions, self.settings.label_ttl, limits.pending_predictions)

    @property
    def name(self) -> str:
        """The model's name in events and labels."""
        return self.settings.name

    @property
    def reference(self) -> Reference:
        """The reference of the newest profile."""
        newest = self.profiles.newest
        return next(reference for reference in self.references if reference.profile is newest)

    def reference_of(self, version: str) -> Reference:
        """Return the reference by which a version is counted."""
        return self._by_version.get(version) or self._by_version[None]

    def schema_of(self, columns: Columns) -> Schema:
        """Return the schema by which events were decoded."""
        return self._by_version[columns.schema].schema

    @property
    def schemas(self) -> list[Schema]:
        """How events are typed: the newest profile's first, since most events are its."""
        return sorted((r.schema for r in self.references), key=lambda schema: schema is not self.reference.schema)

    @property
    def horizon(self) -> float:
        """Age in seconds beyond which an event is in no window."""
        return max(self._reaches)

    def expect(self) -> None:
        """Let the version that the newest profile was made for be there, at zero, before its first event."""
        self.versions.expect(self.reference.version or self.profiles.newest.provenance.model_version or DEFAULT_VERSION)

    def admit(
        self, versions: Mapping[str | None, float] | Collection[str | None], now: float | None = None
    ) -> Set[str | None]:
        """Begin the versions of a body that are new `now`, and return those for which there is no place left.

        Given as a mapping, they come with the times of their newest events, which tell what windows will show once
        they are counted.
        """
        now = clock.now() if now is None else now
        newest = versions if isinstance(versions, Mapping) else dict.fromkeys(versions, -math.inf)
        refused = self.versions.admit(newest, now)
        self._let_go()
        if self.given_up:
            for name in self.given_up.keys() & self.versions.keys():  # it is there again, and goes on
                self.versions[name].unlabelled += self.given_up.pop(name)
        return refused

    def need_room(self, names: Set[str | None]) -> bool:
        """Whether to admit these would change what waits."""
        return self.versions.need_room(names)

    def _begin(self, name: str, place: int, seen: float) -> Version:
        """Return a version that has counted nothing."""
        return self.reference_of(name).begin(name, place, seen)

    def _shows(self, version: Version, now: float) -> bool:
        """Whether a window shows anything of a version, or will once all that was admitted is counted."""
        layout = self.reference_of(version.name).layout
        return bool(
            version.newest >= now - self.horizon
            or version.totals(now)[:, [layout.predictions.start, layout.labels.start]].any()
        )

    def _let_go(self) -> None:
        """Forget what belonged to versions that are gone."""
        while self.versions.gone:
            version = self.versions.gone.pop()
            waited = self.joins.close(version.place) + (self.shown.close(version.place) if self.shown else 0)
            self._note_given_up(version.name, version.unlabelled + waited)
            self.late.close(version.place)
            del self.reference_of(version.name).versions[version.name]

    def _note_given_up(self, version: str, predictions: int) -> None:
        """Remember what was given up of a version that is gone: of the last such, since names come from outside."""
        if predictions:
            known = self.given_up.pop(version, 0)
            self.given_up = dict([*self.given_up.items(), (version, known + predictions)][-self._limits.versions :])

    def _retire(self, now: float) -> bool:
        """Let go of versions whose profile is gone from the configuration, once nothing refers to them any more."""
        self.versions.retire(lambda version: self.reference_of(version.name).retired, now)
        self._let_go()
        kept = [reference for reference in self.references if reference.versions or not reference.retired]
        if len(kept) == len(self.references):
            return False
        self.references = kept
        self._by_version = {reference.version: reference for reference in kept}
        return True

    @property
    def state_name(self) -> str:
        """Name of the stored state."""
        return f"model {self.name} {self.settings.task}"

    @property
    def state_names(self) -> list[str]:
        """Names under which a state may be stored, the former one included, which told what the counts rested on."""
        return [self.state_name, f"model {self.name} {self._by_version[None].basis}"]

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as a tree of arrays and numbers."""
        counted = list(self.versions.counted)
        references = {reference.digest: reference for reference in self.references if reference.versions}
        return {
            "format": 2,
            "profiles": {digest: reference.kept for digest, reference in references.items()},
            "classes": self.outcomes.classes,
            "versions": {version.name: self._state_of(version) for version in counted},
            "joins": self.joins.state(),
            "late": self.late.state(),
            "shown": self.shown.state() if self.shown else {},
            "challenge": self.challenge.state() if self.challenge else {},
            "given_up": self.given_up,
            **{name: getattr(self, name) for name in COUNTS},
        }

    def _state_of(self, version: Version) -> dict[str, Any]:
        reference = self.reference_of(version.name)
        return {
            "place": version.place,
            "digest": reference.digest,
            "own": reference.version is not None,
            "basis": reference.basis,
            "places": reference.layout.places(),
            "outputs": reference.layout.output_names,
            "classes": reference.profile.classes,
            **version.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over `state`, before the first event."""
        stored = read_state(state, self.reference, self.settings.challenge)
        profiles = {digest: decoded(data) for digest, data in stored.profiles.items()}
        transfer = self._adopt(stored, profiles)
        self.joins.restore(stored.joins, transfer)
        self.late.restore(stored.late, transfer.of_outcomes)
        if self.shown is not None and stored.shown:
            self.shown.restore(stored.shown, transfer)
        self._hold_versions(len(self.versions.places))

    def take_over(self, former: "Model") -> None:
        """Go on, before the first event, from a model of the same task, which takes no events any more.

        What is kept is what `restore` would keep of its state.
        """
        stored = read_state(former.state(), former.reference, former.settings.challenge)
        self.seed = former.seed
        transfer = self._adopt(stored, {reference.digest: reference.profile for reference in former.references})
        self.joins.take_over(former.joins, transfer)
        self.late.take_over(former.late, transfer.of_outcomes)
        if self.shown is not None and former.shown is not None:
            self.shown.take_over(former.shown, transfer)
        self._hold_versions(len(self.versions.places))

    def _hold_versions(self, count: int) -> None:
        self.joins.hold_versions(count)
        self.late.hold_versions(count)
        if self.shown is not None:
            self.shown.hold_versions(count)

    def _adopt(self, stored: StoredModel, profiles: dict[str, Profile]) -> Transfer:
        """Take over versions with their counts; returns how what the joins hold of them is to be read."""
        former = [
            (version.name, profiles[version.digest])
            for version in stored.versions
            if version.digest in profiles and self._keeps_its_profile(version, profiles[version.digest])
        ]
        if former:
            self._refer(former)
            self.joins = self._joins()
            self.late = self._late()
            self.shown = self._shown()
        self._hold_versions(max((version.place + 1 for version in stored.versions), default=0))
        outputs: dict[int, list[int]] = {}
        predictions: dict[int, Floats] = {}
        begun: list[int] = []
        for version in stored.versions:
            reference = self.reference_of(version.name)
            layout = reference.layout
            restored = self.versions.put(version.name, version.seen, version.place)
            outputs[version.place] = columns_of(version, layout.output_names, reference.profile)
            if version.classes != reference.profile.classes:
                predictions[version.place] = codes_of(version.classes, reference.profile.classes)
            if version.basis == reference.basis:
                restored.restore(version.counts, layout.shared(version.places))
            if version.basis != reference.basis or version.places != layout.places():
                begun.append(version.place)
            if version.basis != reference.basis:
                _log.info(
                    "model %s: version %s begins anew, and keeps the predictions that wait for their label: its counts "
                    "rested on %s, and now rest on %s",
                    self.name,
                    version.name,
                    version.basis,
                    reference.basis,
                )
        for name in COUNTS:
            setattr(self, name, stored.counts[name])
        self.given_up = dict(stored.given_up)
        if self.challenge is not None:
            self.challenge.restore(stored.challenge)
        same = stored.classes == self.outcomes.classes
        labels = None if same else codes_of(stored.classes, self.outcomes.classes)
        return Transfer(outputs, predictions, labels, begun)

    def _keeps_its_profile(self, version: StoredVersion, profile: Profile) -> bool:
        """Whether a version is counted on by the profile that it had, which the configuration does not name for it.

        One that had a profile of its own keeps it until it retires. A shared profile that was made for this very
        version stays with it once the shared one is made for another: that is a release.
        """
        if version.name in self.profiles.by_version:
            return False
        shared = self.profiles.shared
        if shared is None:
            return version.own or profile.provenance.model_version == version.name
        if shared.digest == profile.digest:
            return False
        return profile.provenance.model_version == version.name != shared.provenance.model_version

    @property
    def waiting(self) -> int:
        """Number of predictions that wait for their label."""
        return sum(map(self._waits_here, self.versions.values()))

    def _waits_here(self, version: Version) -> int:
        """Return how many predictions of a version wait here for their label, or to be final."""
        waiting = self.joins.waiting(version)
        return waiting + (int(self.shown.waiting_predictions[version.place]) if self.shown else 0)

    @property
    def waiting_labels(self) -> int:
        """Number of labels that wait for their prediction."""
        return self.joins.waiting_labels + (self.shown.waiting_labels if self.shown else 0)

    def window_predictions(self, now: float) -> Floats:
        """Return how many predictions of all versions are in the windows, (W,)."""
        predictions = np.zeros(len(self.settings.windows))
        for reference in self.references:
            for version in reference.versions.values():
                predictions += version.totals(now)[:, reference.layout.predictions.start]
        return predictions

    def forget(self, origins: Origins) -> Iterator[None]:
        """Forget step by step what waits of some origins, which another exporter sees to now."""
        yield from self.joins.forget(origins)
        yield from self.late.forget(origins)
        if self.shown is not None:
            yield from self.shown.forget(origins)

    def put_in_order(self) -> None:
        """Let what waits be given up by age, after older things were taken in."""
        self.joins.put_in_order()
        self.late.put_in_order()
        if self.shown is not None:
            self.shown.put_in_order()

    def waiting_predictions(self, version: str) -> int:
        """Return how many predictions of a version wait for their label."""
        return self._waits_here(self.versions[version]) + self.waiting_elsewhere.get(version, 0)

    def count(self, columns: Columns, now: float = -math.inf) -> None:
        """Count events of one schema whose versions are admitted, each prediction and each label once.

        `now` is when the last of them arrived; unknown, they are as late as the newest of them.
        """
        self._now = now
        columns = self._of_those_here(columns)
        if not len(columns):
            return
        reference = self._by_version[columns.schema]
        features, vectors, outputs = reference.encode(columns)
        table = self._padded(outputs.table())
        times = floats(columns.times)
        labels = floats(columns.labels)
        versions = self._places(columns)
        failed = _given(columns.errors)
        predicts = versions >= 0
        fresh = predicts.copy()

        self._finish(now)
        keys, targets = self._keys(columns, outputs)
        known = keys != 0
        heard = labels
        if self.shown is not None:  # feedback on a list that is known by its id waits with it, and decides nothing
            labels = np.where(known, np.nan, labels)
        labelled = predicts & ~np.isnan(labels)
        joins = self.joins.of(versions, self.versions.place(self.challenge.challenger) if self.challenge else -2)
        relabelled: list[Ints] = []
        for join, mine in joins:
            rows = np.flatnonzero(predicts & known & mine)
            if not len(rows):
                relabelled.append(rows)
                continue
            expected = _expected(reference, labels[rows], failed[rows])
            came = some(columns.origins, rows)
            result = join.predict(keys[rows], times[rows], versions[rows], table.take(rows, axis=0), expected, came)
            fresh[rows] = result.fresh
            again = rows[~result.fresh]
            self.predictions_duplicate += len(again)
            self._give_up(result.given_up, join)
            self._count_pairs(result.pairs)
            self._ask_actuals(join, rows[result.fresh & np.isnan(expected)], keys, targets)
            relabelled.append(np.concatenate([again, rows[result.met]]))
            labelled[relabelled[-1]] = False

        own, rated = self._rate(columns, keys, times, versions, fresh, joins[0][1])
        columns = replace(columns, outcomes=own)
        self._count_predictions(
            reference, columns, features, vectors, times, outputs, versions, failed, np.flatnonzero(fresh)
        )
        if self.shown is not None:
            self._rank(columns, keys, times, versions, fresh & known & ~failed, known & ~np.isnan(heard))
        direct = np.flatnonzero(labelled & fresh)
        if len(direct):
            pairs = Pairs(
                versions[direct],
                times[direct],
                times[direct],
                table[direct] if columns.lists is None else columns.lists[direct],
                labels[direct] if columns.lists is None else np.ones(len(direct)),
                np.full(len(direct), np.nan),
                keys[direct],
            )
            if columns.lists is None:
                self._count_pairs(pairs, delayed=False)
            else:
                self._count_lists(pairs, now)
        apart = ~predicts & ~np.isnan(labels)
        for (join, _), again in zip(joins, relabelled, strict=True):
            alone = np.concatenate([np.flatnonzero(apart & (targets == 0)), again[~np.isnan(labels[again])]])
            if len(alone):
                joined = join.label(keys[alone], times[alone], labels[alone], some(columns.origins, alone))
                self.labels_duplicate += joined.duplicates if self.joins.tells(join) else 0
                self._give_up(joined.given_up, join)
                self._count_pairs(joined.pairs)
        actual = np.flatnonzero(apart & (targets != 0))
        if len(actual):
            self._label_targets(targets[actual], times[actual], labels[actual], some(columns.origins, actual))
        self._count_rated(rated)

    def _keys(self, columns: Columns, outputs: Outputs) -> tuple[Keys, Keys]:
        """Return the key of each event and that of its target, 0 for none.

        What has a target has the key of target and horizon together, and without a horizon none of its own.
        """
        keys = hash_ids(columns.ids, self.seed)
        if self.joins.actuals is None:
            return keys, np.zeros(len(keys), np.uint64)
        of_target = np.fromiter((type(each) is Target for each in columns.ids), np.bool_, len(keys))
        targets = np.where(of_target, keys, np.uint64(0))
        horizons = hash_ids(self.schema_of(columns).forecasts.horizons.names, self.seed)
        codes = outputs.forecast[:, 0]
        ahead = np.flatnonzero(of_target & ~np.isnan(codes))
        keys[of_target] = 0
        keys[ahead] = combined(targets[ahead], horizons[codes[ahead].astype(np.intp)])
        return keys, targets

    def _ask_actuals(self, join: Join, rows: Ints, keys: Keys, targets: Keys) -> None:
        """Label forecasts whose actual value was there before them."""
        rows = rows[targets[rows] != 0]
        if self.joins.actuals is None or not len(rows):
            return
        actual = self.joins.actuals.known(targets[rows])
        known = ~np.isnan(actual.labels) & join.knows(keys[rows])
        for refilled in (False, True):
            mine = known & (actual.refilled == refilled)
            if mine.any():
                joined = join.label(keys[rows[mine]], actual.times[mine], actual.labels[mine], refilled=refilled)
                self._give_up(joined.given_up, join)
                self._count_pairs(joined.pairs)
        self.joins.actuals.meet(targets[rows[known]])

    def _label_targets(
        self, targets: Keys, times: Floats, labels: Floats, origins: Origins, *, refilled: bool = False
    ) -> None:
        """Label the forecasts of every horizon that were made of these targets."""
        actuals = self.joins.actuals
        assert actuals is not None, "targets are of forecasts"
        told = actuals.label(targets, times, labels, origins, refilled=refilled)
        self.labels_duplicate += 0 if refilled else told.duplicates
        self._give_up(told.given_up, actuals)
        names = dict.fromkeys(name for r in self.references for name in r.schema.forecasts.horizons.names)
        keys = combined(targets[:, np.newaxis], hash_ids(list(names), self.seed)).ravel()
        rows = np.repeat(np.arange(len(targets)), len(names))
        for join in self.joins.of_predictions:
            known = join.knows(keys)
            if known.any():
                joined = join.label(keys[known], times[rows[known]], labels[rows[known]], refilled=refilled)
                self._give_up(joined.given_up, join)
                self._count_pairs(joined.pairs)
                actuals.meet(targets[rows[known]])

    def _rank(
        self,
        columns: Columns,
        keys: Keys,
        times: Floats,
        versions: Ints,
        fresh: Flags,
        heard: Flags,
        *,
        refilled: bool = False,
    ) -> None:
        """Let lists wait until they are final, and take in what was relevant of those that are not."""
        assert self.shown is not None
        assert columns.lists is not None
        lists = resized(columns.lists, self.shown.length)
        rows = np.flatnonzero(fresh & ~np.isnan(lists[:, 0]))
        came = some(columns.origins, rows)
        self.shown.show(keys[rows], times[rows], versions[rows], lists[rows], came, refilled=refilled)
        rows = np.flatnonzero(heard)
        found = self.shown.hear(keys[rows], times[rows], lists[rows], some(columns.origins, rows), refilled=refilled)
        if not refilled:
            self.labels_duplicate += found.duplicates
            self.labels_unmatched += found.unmatched
        self._give_up(self.shown.shrink(), self.joins.main)

    def _finish(self, now: float) -> bool:
        """Count the lists that are final; returns whether there were any."""
        if self.shown is None:
            return False
        changed = False
        for pairs, unmatched in self.shown.finish(now):
            self.labels_unmatched += unmatched
            answered = pairs.labels > 0
            changed |= bool(len(answered) or unmatched)
            if self.settings.ranking.without_feedback == "unknown":
                self._give_up(GivenUp(pairs.versions[~answered], 0), self.joins.main)
                pairs = pairs.rows(answered)
            self._count_lists(pairs, now)
        return changed

    def _count_lists(self, everyones: Pairs, now: float) -> None:
        """Count lists that are final, in the pane in which they became so, or in that of the list, as configured."""
        for reference, pairs in self._by_reference(everyones):
            layout = reference.layout
            by_label = self.settings.performance_time == "label"
            times = pairs.label_times if by_label else pairs.prediction_times
            answered = pairs.labels > 0
            for version, time, group in self._groups(pairs.versions, times, np.arange(len(times))):
                delta = layout.zeros()
                layout.count_lists(delta, pairs.outputs[group])
                version.add(delta, time, now)
                if answered[group].any():
                    newest = float(pairs.label_times[group[answered[group]]].max())
                    version.last_label = max(version.last_label or 0.0, newest)
            self._cover(pairs.versions[answered], pairs.prediction_times[answered], labelled=True)

    def _rate(
        self,
        columns: Columns,
        keys: Keys,
        times: Floats,
        versions: Ints,
        fresh: Flags,
        mine: Flags,
        *,
        refilled: bool = False,
    ) -> tuple[Floats, list[Rated]]:
        """Return which outcomes are to be counted with their fresh predictions, and those that came apart from theirs.

        `mine` are not the challenger's: what becomes of an answer tells of the one that was given.
        """
        outcomes, known = columns.outcomes, mine & (keys != 0)
        if not self.late.tallies or not known.any():
            return outcomes, []
        own = outcomes.copy()
        here, apart = np.flatnonzero(known & fresh), np.flatnonzero(known & ~fresh)
        own[here], rated = self.late.predict(
            keys[here], times[here], versions[here], outcomes[here], some(columns.origins, here), refilled=refilled
        )
        came = some(columns.origins, apart)
        return own, [*rated, *self.late.rate(keys[apart], times[apart], outcomes[apart], came, refilled=refilled)]

    def _count_rated(self, rated: Iterable[Rated]) -> None:
        """Count outcomes that came apart from their predictions, each in its own pane or in its prediction's."""
        for outcome, everyones in rated:
            for reference, pairs in self._by_reference(everyones):
                by_label = self.settings.performance_time == "label"
                times = pairs.label_times if by_label else pairs.prediction_times
                first = np.isnan(pairs.old_labels)
                name = reference.outcome_counts[outcome].outcome
                now = max(self._now, float(times.max(initial=-math.inf)))
                for version, time, group in self._groups(pairs.versions, times, np.flatnonzero(first)):
                    version.add(reference.outcome_sums(outcome, pairs.labels[group]), time, self._now)
                    if version.changes is not None:
                        version.changes.observe_outcome(name, pairs.labels[group], time, now)
                for version, time, group in self._groups(pairs.versions, times, np.flatnonzero(~first)):
                    before, after = (
                        reference.outcome_sums(outcome, values[group]) for values in (pairs.old_labels, pairs.labels)
                    )
                    version.move(before, after, time)

    def refill(self, columns: Columns) -> None:
        """Take events that were counted elsewhere into the joins, so that what is to come finds them.

        Counted is only what nobody can have counted: a pair of which one part came here. What has waited too long is
        left out, since it was given up there.
        """
        columns = self._of_those_here(columns)
        if not len(columns):
            return
        reference = self._by_version[columns.schema]
        _, _, outputs = reference.encode(columns)
        table = self._padded(outputs.table())
        times, labels, versions = floats(columns.times), floats(columns.labels), self._places(columns)
        keys, targets = self._keys(columns, outputs)
        predicts = versions >= 0
        young = times + self.settings.label_ttl >= clock.now()
        known = keys != 0
        fresh = known & young
        failed = _given(columns.errors)
        if self.shown is not None:
            shown = predicts & fresh & ~failed
            self._rank(columns, keys, times, versions, shown, fresh & ~np.isnan(labels), refilled=True)
            labels = np.full(len(labels), np.nan)
        expected = _expected(reference, labels, failed)
        challenger = self.versions.place(self.challenge.challenger) if self.challenge else -2
        joins = self.joins.of(versions, challenger)
        answers = joins[0][1] & fresh
        self._count_rated(self._rate(columns, keys, times, versions, predicts, answers, refilled=True)[1])
        for join, mine in joins:
            rows = np.flatnonzero(predicts & fresh & mine)
            came = some(columns.origins, rows)
            result = join.predict(
                keys[rows], times[rows], versions[rows], table[rows], expected[rows], came, refilled=True
            )
            asking = rows[result.fresh & np.isnan(expected[rows])]
            again = np.concatenate([rows[~result.fresh], rows[result.met]])
            alone = ~predicts & fresh & (targets == 0) & ~np.isnan(labels)  # not an outcome by itself
            rows = np.concatenate([np.flatnonzero(alone), again[~np.isnan(labels[again])]])
            came = some(columns.origins, rows)
            joined = join.label(keys[rows], times[rows], labels[rows], came, refilled=True)
            for found in (result, joined):
                self._give_up(found.given_up, join)
                self._count_pairs(found.pairs)
            self._ask_actuals(join, asking, keys, targets)
        actual = np.flatnonzero(~predicts & young & (targets != 0) & ~np.isnan(labels))
        if len(actual):
            came = some(columns.origins, actual)
            self._label_targets(targets[actual], times[actual], labels[actual], came, refilled=True)

    def add(self, ledger: PartialLedger, arrived: float) -> int:
        """Add the sums of events that were counted elsewhere, of a version that is admitted; returns how many they are.

        Whoever counted them joined their labels and told repeated events apart, so those are of no event here.
        """
        version, reference = self.versions[ledger.version], self.reference_of(ledger.version)
        layout = reference.layout
        cells, pane = ledger.numbers(), ledger.pane
        narrow = math.isclose(pane.width, narrowest(self.settings.windows), rel_tol=1e-9)
        # A wide one is counted just behind where it begins, which the shorter windows have passed, as in `_panes`.
        time = min(pane.start + (0.5 if narrow else 1e-3) * pane.width, arrived)
        version.add(cells, time, arrived)
        predictions, failures = cells[layout.predictions.start], cells[layout.failures.start]
        labels = cells[layout.labels.start]
        version.cover_pane(time, (predictions - failures) * reference.expects_labels, labels)
        for name in ("last_prediction", "last_label"):
            if (newest := getattr(ledger, name)) is not None:
                setattr(version, name, max(getattr(version, name) or 0.0, min(newest, arrived)))
        return int(max(predictions, labels))

    def _of_those_here(self, columns: Columns) -> Columns:
        """Return the events but those of versions that made room before they were counted: these are given up."""
        gone = columns.version_names - self.versions.keys() - {None}
        if not gone:
            return columns
        waiting = ~_given(columns.errors) & np.isnan(floats(columns.labels)) & (hash_ids(columns.ids, self.seed) != 0)
        waiting &= self._by_version[columns.schema].expects_labels
        for version, count in Counter(compress(columns.versions, waiting.tolist())).items():
            if version in gone:
                self._note_given_up(str(version), count)
        return columns.keep([version not in gone for version in columns.versions], self.schema_of(columns))

    def _padded(self, table: Floats) -> Floats:
        """Return outputs of one reference in a table that is wide enough for any."""
        missing = self._width - table.shape[1]
        return np.pad(table, ((0, 0), (0, missing)), constant_values=np.nan) if missing else table

    def expire(self, now: float) -> bool:
        """Give up what waited too long, and what a clock has counted that was ahead; returns whether there was any."""
        changed = False
        for version in self.versions.values():
            changed |= version.forget_after(now)
        if self.challenge:
            changed |= self.challenge.forget_after(now)
        changed |= self.late.expire(now)
        changed |= self._finish(now)
        for join, given_up in self.joins.expire(now):
            self._give_up(given_up, join)
            changed |= bool(len(given_up.versions) or given_up.labels)
        if any(reference.retired for reference in self.references):
            changed |= self._retire(now)
        return changed

    def _places(self, columns: Columns) -> Ints:
        """Return each event's place among the versions, -1 for a label alone."""
        versions, names = columns.versions, columns.version_names
        places: dict[str | None, int] = {None: -1, **{name: v.place for name, v in self.versions.items()}}
        if len(names) == 1:
            return np.full(len(versions), places[names.pop()], np.intp)
        return np.fromiter(map(places.__getitem__, versions), np.intp, len(versions))

    def _count_predictions(
        self,
        reference: Reference,
        columns: Columns,
        features: Encoded,
        vectors: Vectors | None,
        times: Floats,
        outputs: Outputs,
        versions: Ints,
        failed: Flags,
        rows: Ints,
    ) -> None:
        if not len(rows):
            return
        featured = columns.features.flags
        place = np.cumsum(featured) - 1
        latency = floats(columns.latencies)
        expecting = rows[~failed[rows] & reference.expects_labels]
        self._cover(versions[expecting], times[expecting], labelled=False)
        newest = float(times[rows].max())
        for version, time, group in self._groups(versions, times, rows):
            delta = reference.layout.zeros()
            reference.count_features(delta, features, vectors, place[group[featured[group]]])
            failures = int(np.count_nonzero(failed[group]))
            mine = outputs.rows(group)
            reference.layout.count_predictions(delta, mine, latency[group], failures)
            reference.count_outcomes(delta, columns.outcomes[group])
            version.add(delta, time, self._now)
            if version.changes is not None:
                version.changes.observe("score", mine, _NO_LABELS, time, max(self._now, newest))
                version.changes.observe_outcomes(columns.outcomes[group], time, max(self._now, newest))
            version.last_prediction = max(version.last_prediction or 0.0, float(times[group].max()))

    def _count_pairs(self, pairs: Pairs, *, delayed: bool = True) -> None:
        """Count predictions with their labels, each by the reference of the prediction's version."""
        for reference, mine in self._by_reference(pairs):
            self._count_pairs_of(reference, mine, delayed=delayed)

    def _by_reference(self, pairs: Pairs) -> Iterator[tuple[Reference, Pairs]]:
        """Yield each reference that counts the versions of some pairs, and these."""
        if not len(pairs.versions):
            return
        for reference in self.references:
            places = [version.place for version in reference.versions.values()]
            mine = np.isin(pairs.versions, places)
            if mine.all():
                yield reference, pairs
                return
            if mine.any():
                yield reference, pairs.rows(mine)

    def _count_pairs_of(self, reference: Reference, pairs: Pairs, *, delayed: bool) -> None:
        """Count pairs of one reference, in the pane of the label or of the prediction, as configured."""
        layout = reference.layout
        own, old = reference.own_labels(pairs.labels), reference.own_labels(pairs.old_labels)
        foreign = np.isnan(own)
        if foreign.any():  # a class that this version cannot predict: no label of its own
            self.labels_unmatched += int(np.count_nonzero(foreign))
            own, old = own[~foreign], old[~foreign]
            pairs = pairs.rows(~foreign)
        times = pairs.label_times if self.settings.performance_time == "label" else pairs.prediction_times
        delays = np.maximum(pairs.label_times - pairs.prediction_times, 0.0) if delayed else np.full(len(times), np.nan)
        corrects = ~np.isnan(pairs.old_labels)
        outputs = layout.outputs(pairs.outputs[:, : layout.output_width])
        if self.challenge is not None:
            self._count_challenge(reference.profile, pairs, times, outputs, own)
        newest = float(times.max(initial=-math.inf))
        for version, time, group in self._groups(pairs.versions, times, np.flatnonzero(~corrects)):
            delta = layout.zeros()
            mine = outputs.rows(group)
            layout.count_labels(delta, mine, own[group], delays[group])
            version.add(delta, time, self._now)
            if version.changes is not None:
                version.changes.observe("error", mine, own[group], time, max(self._now, newest))
            version.last_label = max(version.last_label or 0.0, float(pairs.label_times[group].max()))
        self._cover(pairs.versions[~corrects], pairs.prediction_times[~corrects], labelled=True)
        for version, time, group in self._groups(pairs.versions, times, np.flatnonzero(corrects)):
            self.labels_corrected += len(group)
            before, after = layout.zeros(), layout.zeros()
            absent = np.full(len(group), np.nan)
            layout.count_labels(before, outputs.rows(group), old[group], absent)
            layout.count_labels(after, outputs.rows(group), own[group], absent)
            version.move(before, after, time)

    def _count_challenge(self, profile: Profile, pairs: Pairs, times: Floats, outputs: Outputs, labels: Floats) -> None:
        """Compare champion and challenger where both are known; corrected labels change nothing here."""
        assert self.challenge is not None
        names = (self.challenge.champion, self.challenge.challenger)
        sides = np.select([pairs.versions == self.versions.place(name) for name in names], [0, 1], -1)
        rows = np.flatnonzero((sides >= 0) & (pairs.keys != 0) & np.isnan(pairs.old_labels))
        if len(rows):
            self.challenge.add(pairs.keys[rows], sides[rows], times[rows], profile, outputs.rows(rows), labels[rows])

    def _cover(self, versions: Ints, times: Floats, *, labelled: bool) -> None:
        """Count predictions that expect a label, or those of them that have got it, by version."""
        if not len(versions):
            return
        if versions.min() == versions.max():  # most batches
            if (only := self.versions.places[versions[0]]) is not None:
                only.cover(times, labelled=labelled)
            return
        for place in np.unique(versions).tolist():
            if (version := self.versions.places[place]) is not None:
                version.cover(times[versions == place], labelled=labelled)

    def _groups(self, versions: Ints, times: Floats, rows: Ints) -> Iterator[tuple[Version, float, Ints]]:
        """Yield the rows of each version and pane, with a time in that pane, the oldest first.

        Panes that no window shows any more are one: each would cost as much as all rows of a usual batch.
        """
        if not len(rows):
            return
        everyone = self.versions.places
        ends, panes = self._panes(times[rows])
        codes = versions[rows]
        if len(ends) == 1 and codes.min() == codes.max():  # most batches
            only = everyone[codes[0]]
            assert only is not None, "nothing waits for a version that is gone"
            yield only, float(ends[0]), rows
            return
        places = panes * len(everyone) + codes
        if places.max() < 1 << 16:
            places = places.astype(np.uint16)  # which sorts several times as fast
        order = places.argsort(kind="stable")
        starts = np.flatnonzero(np.diff(places[order])) + 1
        for place, group in zip(places[order[[0, *starts]]].tolist(), np.split(rows[order], starts), strict=True):
            pane, code = divmod(place, len(everyone))
            version = everyone[code]
            assert version is not None, "nothing waits for a version that is gone"
            yield version, float(ends[pane]), group

    def _panes(self, times: Floats) -> tuple[Floats, Ints]:
        """Return a time in each pane to be told apart, ascending, and which of them holds each of `times`.

        What is too old for the shortest window, whose panes are the narrowest, is told apart by the panes of the next.
        Nothing is newer than the clock, so whatever is behind it and the newest of `times` is in no window any more.
        """
        oldest, newest = float(times.min()), max(float(times.max()), self._now)
        width = self._pane_width
        first = oldest // width
        if first == float(times.max()) // width > newest // width - PANES:
            return np.array([(first + 0.5) * width]), np.zeros(len(times), np.intp)
        centres = (np.floor(times / width) + 0.5) * width
        for window, wider in pairwise([*self._reaches, math.inf]):
            old = np.floor(times / (window / PANES)) <= newest // (window / PANES) - PANES
            if not old.any():
                break
            if math.isinf(wider):
                centres[old] = centres[old].max()
            else:  # just behind where the pane begins, which the shorter windows have passed as well
                centres[old] = (np.floor(times[old] / (wider / PANES)) + 1e-3) * (wider / PANES)
        ends, which = np.unique(centres, return_inverse=True)
        return ends, which.reshape(-1)

    def _give_up(self, given_up: GivenUp, join: Join) -> None:
        """Count what waited in vain; that a label found no challenger says nothing."""
        self.labels_unmatched += given_up.labels if self.joins.tells(join) else 0
        for place, count in enumerate(np.bincount(given_up.versions).tolist()):
            version = self.versions.places[place] if count else None
            if version is not None:
                version.unlabelled += count


def _expected(reference: Reference, labels: Floats, failed: Flags) -> Floats:
    """Return labels, CLOSED in place of those that are not there and will not come."""
    return np.where((failed | (not reference.joins_labels)) & np.isnan(labels), CLOSED, labels)


def _given(values: Sequence[object]) -> Flags:
    """Return which values are not None."""
    if values and values[0] is None and values.count(None) == len(values):
        return np.zeros(len(values), np.bool_)
    return np.array([value is not None for value in values])
