"""Fit a profile's small models to the reference while it is read the second time, in bounded memory."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from mlops_exporter.arrays import Floats, Ints, Singles
from mlops_exporter.counting import streams
from mlops_exporter.counting.estimation import design
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.counting.multivariate import FREQUENCIES, MAX_FEATURES, SEED, VectorMap, Vectors
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.fitted import (
    Calibrator,
    EmbeddingReference,
    FourierReference,
    LossModel,
    StreamReference,
    VectorReference,
)
from mlops_exporter.profile.hours import HourlyReference, HourlyVectors
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.sets import members_of
from mlops_exporter.profiling.survey import keys_of
from mlops_exporter.statistics import calibration, multivariate

MIN_ROWS = 50
"""Rows below which nothing is fitted."""

FIT_ROWS = 50_000
"""Rows, about, that the sums of vectors are taken of; all of them where there are fewer.

The mean of so many is known well enough: beside a window of n, its variance is n / FIT_ROWS of the window's own.
"""

_SAMPLE = 20_000  # rows kept for what sums cannot tell
_FOLDS = 5
_FOLD_SEED, _RANK_SEED = 1_000_004, 1_000_005  # of rows' keys; made-up data must not come from the same stream
_EXPLAINED = 0.8  # share of the variance that the principal components keep
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e6)  # penalties per row; the last leaves the mean alone
_LEAST_EXPLAINED = 0.1  # share of the outputs' variance below which they do not tell which features matter


class Fit:
    """Gathers what the models need, block by block; `numeric` and `categorical` are the names of the feature rows."""

    def __init__(
        self, profile: Profile, numeric: list[str], categorical: list[str], shares: Mapping[str, list[float]]
    ) -> None:
        self._profile = profile
        self._names = (numeric, categorical)
        self._calibration = _Calibration(profile) if profile.score_edges else None
        self._vectors = _VectorFit(profile, numeric, categorical, shares) if numeric or categorical else None
        self._losses = _LossFit(profile) if profile.of_numbers and profile.prediction else None
        self._streams = {name: np.zeros(2) for name in streams.scales(profile)}
        self._sample: dict[int, tuple[Floats, Ints, Floats]] = {}

    def add(
        self, numeric: Floats, codes: Ints, outputs: Outputs, labels: Floats, start: int, slots: Ints | None = None
    ) -> None:
        """Take in a block: features (F, n) and (C, n), outputs and labels of all rows, NaN where unknown.

        Its first row has the number `start`; `slots` are those of time, -1 where unknown.
        """
        n = len(labels)
        folds = (keys_of(n, start, _FOLD_SEED) * _FOLDS).astype(np.intp)
        ranks = keys_of(n, start, _RANK_SEED) * self._profile.rows
        chosen = np.flatnonzero(ranks < _SAMPLE)
        fitted = np.flatnonzero(ranks < FIT_ROWS) if self._profile.rows > FIT_ROWS else np.arange(n)
        if self._calibration is not None:
            self._calibration.add(outputs.scores, labels, folds)
        vectors = None
        if self._vectors is not None:
            chosen_of_fitted = np.flatnonzero(ranks[fitted] < _SAMPLE)
            of_fitted = None if slots is None else slots[fitted]
            vectors = self._vectors.add(numeric[:, fitted], codes[:, fitted], chosen_of_fitted, of_fitted)
        if self._losses is not None:
            self._losses.add(outputs.prediction[fitted], labels[fitted], vectors, folds[fitted])
        for name, values in self._streams_of(outputs, labels):
            self._streams[name] += (len(values), values.sum())
        self._sample[start] = numeric[:, chosen], codes[:, chosen], _decision(self._profile, outputs.rows(chosen))

    def add_fit(self, other: "Fit") -> None:
        """Take in what was gathered from other blocks of the same table."""
        for ours, theirs in (
            (self._calibration, other._calibration),
            (self._vectors, other._vectors),
            (self._losses, other._losses),
        ):
            if ours is not None:
                ours.add_fit(theirs)  # type: ignore[arg-type]
        for name in self._streams:
            self._streams[name] += other._streams[name]
        self._sample |= other._sample

    def _streams_of(self, outputs: Outputs, labels: Floats) -> Iterator[tuple[streams.Stream, Floats]]:
        for name, scale in streams.scales(self._profile).items():
            yield name, streams.values(self._profile, name, scale, outputs, labels)

    def finish(self, profile: Profile, importances: Mapping[str, float]) -> None:
        """Put the fitted models into the profile; `importances` as given by the user, or none."""
        if profile.rows >= MIN_ROWS:
            if self._calibration is not None:
                profile.calibrator = self._calibration.finish()
            if self._vectors is not None:
                profile.vectors = self._vectors.finish()
                if isinstance(profile.hours, HourlyReference):
                    profile.hours.vectors = self._vectors.hourly(profile.hours.slots, profile.vectors)
            if self._losses is not None:
                profile.losses = self._losses.finish()
            profile.streams = {
                name: StreamReference(int(n), float(total / n), *streams.scales(profile)[name])
                for name, (n, total) in self._streams.items()
                if n >= MIN_ROWS
            }
        if importances:
            total = sum(importances.values())
            profile.importances = {name: importances.get(name, 0.0) / total for name in profile.features}
        elif profile.rows >= MIN_ROWS and not profile.ranking:  # a list is no number that features would explain
            profile.importances = self._surrogate_importances()

    def _surrogate_importances(self) -> dict[str, float]:
        """Return each feature's share in an additive model of the outputs; empty where that explains too little.

        The model has a coefficient per exported bin. Permuting feature j changes its mean squared error by 2 Var(f_j)
        (Fisher, Rudin and Dominici 2019, JMLR 20): so importances are in proportion to the variances.
        """
        in_order = [self._sample[start] for start in sorted(self._sample)]
        numeric, codes, decision = (
            np.concatenate(parts, axis=-1 if axis else 0)
            for axis, parts in zip((1, 1, 0), zip(*in_order, strict=True), strict=True)
        )
        known = ~np.isnan(decision).any(axis=1)
        bins, sizes = self._bins(numeric[:, known], codes[:, known])
        if np.count_nonzero(known) < MIN_ROWS or not len(bins):
            return {}
        decision = decision[known] - decision[known].mean(axis=0)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        held_out = np.arange(len(decision)) % _FOLDS == 0
        fitted = _additive(bins[:, ~held_out] + offsets[:-1, np.newaxis], decision[~held_out], int(offsets[-1]))
        effects = fitted[bins + offsets[:-1, np.newaxis]]
        residual = (decision - effects.sum(axis=0))[held_out]
        explained = 1 - np.square(residual).sum() / max(np.square(decision[held_out]).sum(), 1e-300)
        variances = effects.var(axis=1).sum(axis=1)
        if explained < _LEAST_EXPLAINED or not variances.sum() > 0:
            return {}
        names = [*self._names[0], *self._names[1]]
        return dict(zip(names, (variances / variances.sum()).round(6).tolist(), strict=True))

    def _bins(self, numeric: Floats, codes: Ints) -> tuple[Ints, list[int]]:
        """Return the exported bin of each value, (features, n), and how many bins each feature has."""
        rows, sizes = [], []
        for name, values in zip(self._names[0], numeric, strict=True):
            variable = self._profile.features[name]
            assert isinstance(variable, NumericVariable)
            edges = [variable.edges[index] for index in variable.exported[1:]]
            bins = np.searchsorted(edges, values, side="right")
            rows.append(np.where(np.isfinite(values), bins, len(edges) + 1))
            sizes.append(len(edges) + 2)
        for name, cells in zip(self._names[1], codes, strict=True):
            rows.append(cells)
            sizes.append(self._profile.features[name].cells)
        return np.array(rows, np.intp).reshape(len(rows), numeric.shape[1]), sizes


class _Calibration:
    def __init__(self, profile: Profile) -> None:
        self._edges = np.array(profile.score_edges)
        self._of_sets = profile.task == "multilabel"
        self._classes = np.array([1]) if profile.task == "binary" else np.arange(len(profile.classes))
        bins, columns = len(self._edges) + 1, len(self._classes)
        self._counts = np.zeros((columns, _FOLDS, bins, 2))
        self._scores = np.zeros((2, columns, bins))

    def add(self, scores: Floats, labels: Floats, folds: Ints) -> None:
        known = np.flatnonzero(~(np.isnan(scores[:, 0]) | np.isnan(labels)))
        if self._of_sets:
            actual = members_of(labels[known], len(self._classes))
        else:
            actual = labels[known, np.newaxis] == self._classes
        for column in range(len(self._classes)):
            values = scores[known, column]
            bins = np.searchsorted(self._edges, values, side="right")
            place = (folds[known] * len(self._scores[0, 0]) + bins) * 2 + actual[:, column]
            self._counts[column] += np.bincount(place, minlength=self._counts[column].size).reshape(
                self._counts[column].shape
            )
            self._scores[0, column] += np.bincount(bins, minlength=len(self._scores[0, column]))
            self._scores[1, column] += np.bincount(bins, values, len(self._scores[1, column]))

    def add_fit(self, other: "_Calibration") -> None:
        self._counts += other._counts
        self._scores += other._scores

    def finish(self) -> Calibrator | None:
        if self._counts[0].sum() < MIN_ROWS:
            return None
        middles = (np.concatenate([[0.0], self._edges]) + np.concatenate([self._edges, [1.0]])) / 2
        count, total = self._scores
        means = np.where(count > 0, total / np.maximum(count, 1), middles)
        fitted = [calibration.calibrate(folds, mean) for folds, mean in zip(self._counts, means, strict=True)]
        return Calibrator(
            [(mean if fit is None else fit).round(6).tolist() for fit, mean in zip(fitted, means, strict=True)],
            count.astype(int).tolist(),
            [fit is not None for fit in fitted],
        )


class _VectorFit:
    def __init__(
        self, profile: Profile, numeric: list[str], categorical: list[str], shares: Mapping[str, list[float]]
    ) -> None:
        variables = {name: profile.features[name] for name in numeric[:MAX_FEATURES]}
        encoded = categorical[: MAX_FEATURES - len(variables)]
        self._shares = {name: shares[name] for name in encoded}
        self._features = [*variables, *encoded]
        self._means = [v.mean for v in variables.values() if isinstance(v, NumericVariable)]
        self._scales = [v.standard_deviation or 1.0 for v in variables.values() if isinstance(v, NumericVariable)]
        for each in map(np.array, self._shares.values()):
            mean = float(np.square(each).sum())
            self._means.append(mean)
            self._scales.append(float(np.sqrt(max((each**3).sum() - mean**2, 0.0))) or 1.0)
        self._width = multivariate.bandwidth(len(self._features))
        self._map = VectorMap(
            range(len(variables)),
            self._means,
            self._scales,
            multivariate.frequencies(SEED, len(self._features), FREQUENCIES, self._width),
            range(len(encoded)),
            list(self._shares.values()),
        )
        self._hourly: dict[int, _SlotSums] = {}
        self._rows = 0
        self._map_sum = np.zeros(2 * FREQUENCIES)
        self._map_products = np.zeros((2 * FREQUENCIES, 2 * FREQUENCIES))
        self._products = np.zeros((len(self._features), len(self._features)))
        self._sample: list[Floats] = []

    def add(self, numeric: Floats, codes: Ints, chosen: Ints, slots: Ints | None) -> Vectors:
        vectors = self._map(numeric, codes)
        values, maps = vectors.values.astype(np.float64), vectors.maps.astype(np.float64)
        self._rows += values.shape[1]
        self._map_sum += maps.sum(axis=1)
        self._map_products += maps @ maps.T
        self._products += values @ values.T
        self._sample.append(values[:, chosen].T)
        for slot in np.unique(slots[slots >= 0]).tolist() if slots is not None else ():
            rows = np.flatnonzero(slots == slot)
            here = values[:, rows]
            self._take(slot, _SlotSums(len(rows), maps[:, rows].sum(axis=1), here @ here.T))
        return vectors

    def add_fit(self, other: "_VectorFit") -> None:
        self._rows += other._rows
        self._map_sum += other._map_sum
        self._map_products += other._map_products
        self._products += other._products
        self._sample += other._sample
        for slot, sums in other._hourly.items():
            self._take(slot, sums)

    def _take(self, slot: int, sums: "_SlotSums") -> None:
        known = self._hourly.get(slot)
        self._hourly[slot] = sums if known is None else known.plus(sums)

    def finish(self) -> VectorReference:
        n = self._rows
        mean, moments = self._map_sum / n, self._products / n
        eigenvalues = np.linalg.eigvalsh(self._map_products / n - np.outer(mean, mean))
        components = multivariate.principal_components(moments, _EXPLAINED)
        sample = np.concatenate(self._sample)
        errors = np.square(sample).sum(1) - np.square(sample @ components).sum(1)
        spread = errors.std()
        return VectorReference(
            features=self._features,
            means=self._means,
            scales=self._scales,
            fourier=FourierReference(
                n, SEED, FREQUENCIES, self._width, mean.round(8).tolist(), eigenvalues.round(10).tolist()
            ),
            second_moments=moments[np.triu_indices(len(self._features))].round(8).tolist(),
            explained=_EXPLAINED,
            error_mean=float(multivariate.reconstruction_error(np.array(float(n)), self._products, components)),
            error_variance=float(spread**2),
            error_skewness=float(np.mean((errors - errors.mean()) ** 3) / spread**3) if spread > 0 else 0.0,
            shares=self._shares or msgspec.UNSET,
        )

    def hourly(self, slots: int, reference: VectorReference) -> HourlyVectors:
        """Return what is usual in each slot; that of the whole reference where there are too few rows."""
        components = multivariate.principal_components(self._products / self._rows, _EXPLAINED)
        rows, means, errors = [0] * slots, [reference.fourier.mean] * slots, [reference.error_mean] * slots
        for slot, (n, maps, products) in self._hourly.items():
            if n >= MIN_ROWS:
                rows[slot], means[slot] = n, (maps / n).round(8).tolist()
                errors[slot] = float(multivariate.reconstruction_error(np.array(float(n)), products, components))
        return HourlyVectors(rows, means, errors)


class _SlotSums(NamedTuple):
    """Sums of the vectors in one slot of time: n, Σ map (D,), Σ x xᵀ (F, F)."""

    n: int
    maps: Floats
    products: Floats

    def plus(self, other: "_SlotSums") -> "_SlotSums":
        return _SlotSums(self.n + other.n, self.maps + other.maps, self.products + other.products)


class EmbeddingFit:
    """Fits the reference of an embedding, from n, sum and sum of squares of each dimension in a first pass."""

    def __init__(self, n: Floats, total: Floats, squares: Floats) -> None:
        self._means = total / np.maximum(n, 1)
        deviation = np.sqrt(np.maximum(squares / np.maximum(n, 1) - self._means**2, 0.0))
        self._scales = np.where(deviation > 0, deviation, 1.0)
        self._width = multivariate.bandwidth(len(n))
        frequencies = multivariate.frequencies(SEED, len(n), FREQUENCIES, self._width)
        self._map = VectorMap(range(len(n)), self._means.tolist(), self._scales.tolist(), frequencies)
        self.rows = 0
        """Vectors that were taken in; `finish` needs one."""
        self._norms = np.zeros(2)
        self._map_sum = np.zeros(2 * FREQUENCIES)
        self._map_products = np.zeros((2 * FREQUENCIES, 2 * FREQUENCIES))
        self._products = np.zeros((len(n), len(n)))

    def add(self, vectors: Singles) -> None:
        """Take in the vectors of a block, (dimensions, n), NaN where there is none."""
        vectors = vectors[:, ~np.isnan(vectors[0])]
        maps = self._map(vectors).maps.astype(np.float64)
        centred = vectors - self._means[:, np.newaxis]
        norms = np.sqrt(np.square(vectors.astype(np.float64)).sum(axis=0))
        self.rows += vectors.shape[1]
        self._norms += (norms.sum(), np.square(norms).sum())
        self._map_sum += maps.sum(axis=1)
        self._map_products += maps @ maps.T
        self._products += centred @ centred.T

    def add_fit(self, other: "EmbeddingFit") -> None:
        """Take in what was gathered from other blocks of the same table."""
        self.rows += other.rows
        self._norms += other._norms
        self._map_sum += other._map_sum
        self._map_products += other._map_products
        self._products += other._products

    def finish(self) -> EmbeddingReference:
        """Return the reference."""
        n = self.rows
        mean = self._map_sum / n
        direction = self._means / (np.linalg.norm(self._means) or 1.0)
        across = np.eye(len(direction)) - np.outer(direction, direction)
        norm, norm_square = self._norms / n
        return EmbeddingReference(
            dimensions=len(self._means),
            means=self._means.round(8).tolist(),
            scales=self._scales.round(8).tolist(),
            fourier=FourierReference(
                n,
                SEED,
                FREQUENCIES,
                self._width,
                mean.round(8).tolist(),
                np.linalg.eigvalsh(self._map_products / n - np.outer(mean, mean)).round(10).tolist(),
            ),
            norm_mean=float(norm),
            norm_deviation=float(np.sqrt(max(norm_square - norm**2, 0.0))),
            across_eigenvalues=np.linalg.eigvalsh(across @ (self._products / n) @ across).round(12).tolist(),
        )


class _LossFit:
    """Ridge regression of |error| and error² on the design, the penalty chosen on rows held out."""

    def __init__(self, profile: Profile) -> None:
        assert isinstance(profile.prediction, NumericVariable)
        self._mean = profile.prediction.mean
        self._scale = profile.prediction.standard_deviation or 1.0
        self._parts: list[_Normal] = []  # for training, held out
        self._error4 = 0.0

    def add(self, prediction: Floats, labels: Floats, vectors: Vectors | None, folds: Ints) -> None:
        known = ~(np.isnan(prediction) | np.isnan(labels))
        error = np.abs(prediction - labels)
        self._error4 += float(np.power(error[known], 4).sum())
        for part, fold in enumerate((folds > 0, folds == 0)):
            rows = np.flatnonzero(known & fold)
            matrix = design(prediction[rows], self._mean, self._scale, None if vectors is None else vectors.of(rows))
            losses = np.stack([error[rows], error[rows] ** 2], axis=1)
            sums = _Normal(len(rows), matrix.T @ matrix, matrix.T @ losses, np.square(losses).sum(axis=0))
            self._add_part(part, sums)

    def _add_part(self, part: int, sums: "_Normal") -> None:
        if part == len(self._parts):
            self._parts.append(sums)
        else:
            self._parts[part] = self._parts[part].plus(sums)

    def add_fit(self, other: "_LossFit") -> None:
        self._error4 += other._error4
        for part, sums in enumerate(other._parts):
            self._add_part(part, sums)

    def finish(self) -> LossModel | None:
        if not self._parts or min(part.n for part in self._parts) == 0:
            return None
        training, held_out = self._parts
        everything = training.plus(held_out)
        if everything.n < MIN_ROWS:
            return None
        fits = [_ridge(training, penalty) for penalty in _RIDGES]
        losses = np.array([held_out.squared_error(fit) for fit in fits])  # (penalties, 2)
        best = losses.argmin(axis=0).tolist()
        coefficients = [_ridge(everything, _RIDGES[index])[:, column] for column, index in enumerate(best)]
        spread = held_out.squares[0] - held_out.targets[0, 0] ** 2 / held_out.n
        squared = everything.targets[0, 1]
        return LossModel(
            rows=int(everything.n),
            prediction_mean=self._mean,
            prediction_scale=self._scale,
            coefficients=[[float(f"{value:.6g}") for value in row] for row in np.stack(coefficients, axis=1).tolist()],
            kurtosis=float(self._error4 * everything.n / squared**2) if squared > 0 else 3.0,
            explained=float(1 - losses[best[0], 0] / spread) if spread > 0 else 0.0,
        )


class _Normal(NamedTuple):
    """Sums of least squares of targets y (n, t) on a design X (n, c): n, XᵀX, Xᵀy, Σ y² of each target."""

    n: float
    products: Floats
    targets: Floats
    squares: Floats

    def plus(self, other: "_Normal") -> "_Normal":
        return _Normal(
            self.n + other.n,
            self.products + other.products,
            self.targets + other.targets,
            self.squares + other.squares,
        )

    def squared_error(self, coefficients: Floats) -> Floats:
        """Return the sum of squared residuals of each target."""
        fitted = (coefficients * (self.products @ coefficients)).sum(axis=0)
        error: Floats = self.squares - 2 * (coefficients * self.targets).sum(axis=0) + fitted
        return error


def _ridge(sums: _Normal, penalty: float) -> Floats:
    """Return coefficients, (c, t); the first column of the design, the constant, is not penalised."""
    penalties = np.full(len(sums.products), penalty * sums.n)
    penalties[0] = 1e-9 * sums.n
    return np.asarray(np.linalg.solve(sums.products + np.diag(penalties), sums.targets), np.float64)


def _additive(cells: Ints, targets: Floats, columns: int) -> Floats:
    """Return effects, (columns, targets), of an additive model: event i has the cells `cells[:, i]`."""
    products = np.zeros((columns, columns))
    totals = np.zeros((columns, targets.shape[1]))
    for start in range(0, len(targets), 1000):
        block = cells[:, start : start + 1000]
        one_hot = np.zeros((block.shape[1], columns), np.float32)
        one_hot[np.arange(block.shape[1]), block] = 1.0
        products += one_hot.T @ one_hot
        totals += one_hot.T @ targets[start : start + 1000]
    return np.asarray(np.linalg.solve(products + np.eye(columns), totals), np.float64)


def _decision(profile: Profile, outputs: Outputs) -> Floats:
    """Return what the features are to explain, (n, columns): the scores, or the prediction as number or classes."""
    if outputs.scores.shape[1]:
        return outputs.scores
    if profile.task == "multilabel":
        known = ~np.isnan(outputs.prediction)[:, np.newaxis]
        return np.where(known, members_of(outputs.prediction, len(profile.classes)), np.nan)
    return outputs.prediction[:, np.newaxis]
