"""What a profile learns from the reference beyond counts: small models, each a few numbers in the JSON file."""

import msgspec


class DriftThresholds(msgspec.Struct, forbid_unknown_fields=True):
    """What the critical values of drift rest on, simulated once: see `statistics.thresholds`.

    `coefficients` are by statistic and variable; None where the reference has no value.
    """

    false_alarm_rate: float
    coefficients: dict[str, dict[str, list[float | None]]]


class Calibrator(msgspec.Struct, forbid_unknown_fields=True):
    """Calibrated probability by bin of the score, for each score column.

    `probabilities` and `counts` are (columns, bins), bins as cut by the profile's score_edges. `isotonic` tells for
    each column whether its probabilities are an isotonic fit, or the bins' mean scores where a fit would not help.
    """

    probabilities: list[list[float]]
    counts: list[list[int]]
    isotonic: list[bool]

    def validate(self, columns: int, bins: int) -> None:
        """Raise ValueError where the parts do not fit each other."""
        lengths = [*map(len, self.probabilities), *map(len, self.counts)]
        if len(self.probabilities) != columns or lengths != [bins] * 2 * columns:
            raise ValueError(f"calibrator: {columns} score columns of {bins} bins are needed")


class FourierReference(msgspec.Struct, forbid_unknown_fields=True):
    """The mean of the random Fourier features of vectors of the reference, and how much it varies.

    `rows` is the number of reference vectors, `eigenvalues` those of the map's covariance matrix.
    """

    rows: int
    seed: int
    frequencies: int
    bandwidth: float
    mean: list[float]
    eigenvalues: list[float]


class VectorReference(msgspec.Struct, forbid_unknown_fields=True):
    """The joint distribution of the features, standardised by `means` and `scales`, (F,): numeric, then categorical.

    A category is taken as its share in the reference: `shares` are those of the categories of each such feature, in the
    order of their codes, and last that of all others. A profile of numbers alone is written without them.

    `second_moments` is the upper triangle of Σ x xᵀ / rows, row by row. `error_*` are moments of the reference's
    squared distances from the plane of the first `components` principal components.
    """

    features: list[str]
    means: list[float]
    scales: list[float]
    fourier: FourierReference
    second_moments: list[float]
    explained: float
    error_mean: float
    error_variance: float
    error_skewness: float
    shares: dict[str, list[float]] | msgspec.UnsetType = msgspec.UNSET

    def validate(self, features: list[str], categories: dict[str, int]) -> None:
        """Raise ValueError where the parts do not fit each other; features with categories have so many."""
        n, shares = len(self.features), self.shares or {}
        if not set(self.features) <= set(features):
            raise ValueError("vectors: its features must be features of the profile")
        encoded = [name for name in self.features if name in categories]
        if list(shares) != encoded or self.features[n - len(encoded) :] != encoded:
            raise ValueError("vectors: categorical features must come last, each with its shares")
        for name in encoded:
            if len(shares[name]) != categories[name] + 1:
                raise ValueError(
                    f"vectors: {name}: {categories[name]} categories need as many shares, and one of others"
                )
        if n != len(self.means) or n != len(self.scales) or n * (n + 1) // 2 != len(self.second_moments):
            raise ValueError(f"vectors: {n} features need as many means and scales, and {n * (n + 1) // 2} moments")
        if not 2 * self.fourier.frequencies == len(self.fourier.mean) == len(self.fourier.eigenvalues):
            raise ValueError(
                f"vectors: {self.fourier.frequencies} frequencies need twice as many means and eigenvalues"
            )


class EmbeddingReference(msgspec.Struct, tag_field="kind", tag="embedding", forbid_unknown_fields=True):
    """A feature that is a vector: `means` and `scales` of its dimensions, and the Fourier map of it standardised.

    `norm_*` are mean and standard deviation of its length, `across_eigenvalues` the eigenvalues of its covariance
    matrix across the direction of the mean.
    """

    dimensions: int
    means: list[float]
    scales: list[float]
    fourier: FourierReference
    norm_mean: float
    norm_deviation: float
    across_eigenvalues: list[float]

    def validate(self, name: str) -> None:
        """Raise ValueError where the parts do not fit each other."""
        if not self.dimensions == len(self.means) == len(self.scales) > 0:
            raise ValueError(f"{name}: {self.dimensions} dimensions need as many means and scales")
        if not 2 * self.fourier.frequencies == len(self.fourier.mean) == len(self.fourier.eigenvalues):
            raise ValueError(f"{name}: {self.fourier.frequencies} frequencies need twice as many means and eigenvalues")


class LossModel(msgspec.Struct, forbid_unknown_fields=True):
    """Coefficients, (design columns, 2), of the expected |error| and error² of a regression.

    `kurtosis` is E e⁴ / (E e²)², `explained` the share of the variance of |error| that the model explains on rows
    held out.
    """

    rows: int
    prediction_mean: float
    prediction_scale: float
    coefficients: list[list[float]]
    kurtosis: float
    explained: float

    def validate(self, vectors: VectorReference | None) -> None:
        """Raise ValueError where the parts do not fit each other."""
        columns = 3 + (len(vectors.features) + 2 * vectors.fourier.frequencies if vectors else 0)
        if len(self.coefficients) != columns or any(len(row) != 2 for row in self.coefficients):
            raise ValueError(f"losses: {columns} rows of two coefficients are needed")


class StreamReference(msgspec.Struct, forbid_unknown_fields=True):
    """Mean of a stream of numbers in [0, 1] over the reference, and of how many.

    A number is (value − offset) / scale, cut to [0, 1].
    """

    rows: int
    mean: float
    offset: float = 0.0
    scale: float = 1.0
