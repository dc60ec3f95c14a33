"""What exporters say of a model's life beside its traffic, as samples of one scrape.

`credit` has a challenger, an embedding, a probe and a registry; it and `rent` were retrained. KServe sends CloudEvents.
"""

import math
from collections.abc import Iterator

from mlops_exporter.exposition import catalogue as c
from tests.scene.shares import BEGIN

Sample = tuple[str, dict[str, str], float]

RETRAINED = BEGIN + 3000
ENDED = RETRAINED + 1200


def samples(at: int) -> Iterator[Sample]:
    """Yield what one scrape of an exporter in production shows at a time."""
    passed = at - BEGIN
    wave = math.sin(passed / 900)
    yield c.MODEL_OWNER.name, {"model": "credit", "owner": "anna", "team": "risk", "environment": "production"}, 1.0
    yield from _challenge(passed, wave)
    yield from _embedding(passed, wave)
    yield from _probe(at, passed, wave)
    yield from _registry(at, passed)
    for outcome, rate in (("joined", 2.0), ("duplicate", 0.05), ("refused", 0.0)):
        yield c.CLOUD_EVENTS.name, {"source": "stream", "outcome": outcome}, rate * passed
    yield c.CLOUD_EVENTS_WAITING.name, {"source": "stream"}, 3.0


def _challenge(passed: int, wave: float) -> Iterator[Sample]:
    for window, pairs in (("15m", min(700.0, passed * 0.7)), ("1h", min(2800.0, passed * 0.7))):
        of = {"model": "credit", "champion": "2026.10", "challenger": "2026.11", "window": window}
        yield c.CHALLENGER_WINDOW_PAIRS.name, of, pairs
        if pairs < 100:
            continue
        for metric, middle in (("accuracy", -0.05), ("roc_auc", 0.004)):
            half = 1 / math.sqrt(pairs)
            for shown, value in (
                (c.CHALLENGER_DIFFERENCE, 0.0), (c.CHALLENGER_DIFFERENCE_LOWER, -half),
                (c.CHALLENGER_DIFFERENCE_UPPER, half),
            ):  # fmt: skip
                yield shown.name, of | {"metric": metric}, middle + 0.01 * wave + value


def _embedding(passed: int, wave: float) -> Iterator[Sample]:
    for version in ("2026.10", "2026.11"):
        for statistic, threshold in (("mmd", 0.02), ("cosine", 0.05), ("norm", 0.1)):
            of = {"model": "credit", "version": version, "window": "15m", "feature": "text", "statistic": statistic}
            yield c.EMBEDDING_DRIFT_THRESHOLD.name, of, threshold
            yield c.EMBEDDING_DRIFT.name, of, threshold * (0.5 + 0.2 * wave + (1.4 if passed > 4500 else 0))


def _probe(at: int, passed: int, wave: float) -> Iterator[Sample]:
    of = {"probe": "golden", "model": "credit"}
    of_version = of | {"version": "2026.11"}
    yield c.PROBE_INFO.name, of_version | {"protocol": "v2", "pinned": "rows"}, 1.0
    yield c.PROBE_ROWS.name, of_version, 200.0
    yield c.PROBE_CHANGED.name, of_version, 0.015 if passed > 5000 else 0.0
    for metric, value, agreed in (("accuracy", 0.8, 0.78), ("roc_auc", 0.86, 0.8)):
        yield c.PROBE_PERFORMANCE.name, of_version | {"metric": metric}, value
        yield c.PROBE_PERFORMANCE_LOWER.name, of_version | {"metric": metric}, value - 0.06
        yield c.PROBE_PERFORMANCE_UPPER.name, of_version | {"metric": metric}, value + 0.05
        yield c.PROBE_BENCHMARK_MIN.name, of_version | {"metric": metric}, agreed
    passes = passed // 300
    yield c.PROBE_REQUESTS.name, of, 4.0 * passes
    yield c.PROBE_FAILURES.name, of | {"reason": "timeout"}, float(passes // 12)
    yield c.PROBE_PASSES.name, of, float(passes)
    yield c.PROBE_FAILED_PASSES.name, of, 0.0
    yield c.PROBE_INTERVAL.name, of, 300.0
    yield c.PROBE_LAST_RUN.name, of, float(at - at % 300)
    yield c.PROBE_LAST_SUCCESS.name, of, float(at - at % 300 - 296)
    bounds = c.PROBE_REQUEST_DURATION.buckets
    for number, bound in enumerate(bounds):
        share = (number + 1) / len(bounds)
        yield f"{c.PROBE_REQUEST_DURATION.name}_bucket", of | {"le": f"{bound:g}"}, 4.0 * passes * share
    yield f"{c.PROBE_REQUEST_DURATION.name}_bucket", of | {"le": "+Inf"}, 4.0 * passes
    yield f"{c.PROBE_REQUEST_DURATION.name}_sum", of, 0.2 * 4 * passes
    yield f"{c.PROBE_REQUEST_DURATION.name}_count", of, 4.0 * passes


def _registry(at: int, passed: int) -> Iterator[Sample]:
    of = {"model": "credit"}
    silent = passed > 6600
    yield c.REGISTRY_UP.name, of, 0.0 if silent else 1.0
    yield c.REGISTRY_LAST_SUCCESS.name, of, float(min(at, BEGIN + 6600))
    yield c.REGISTRY_FAILURES.name, of, max(0.0, (passed - 6600) // 60)
    for version, alias in (("2026.10", "champion"), ("2026.11", "challenger")):
        yield c.REGISTRY_VERSION_INFO.name, of | {"version": version, "alias": alias}, 1.0


def receiver(at: int) -> Iterator[Sample]:
    """Yield what a scrape of the receiver of retraining shows."""
    for model, ended, result in (("credit", ENDED, 1.0), ("rent", ENDED + 600, 0.0)):
        of = {"model": model}
        began, done = at >= RETRAINED, at >= ended
        yield c.RETRAINING_DRY_RUN.name, of, 0.0
        yield c.RETRAINING_TRIGGERED.name, of, float(began)
        yield c.RETRAINING_RUNNING.name, of, float(began and not done)
        yield c.RETRAINING_FAILURES.name, of, 3.0 * (done and not result)
        yield c.RETRAINING_DEAD_LETTERS.name, of, float(done and not result)
        if began:
            yield c.RETRAINING_LAST_START.name, of, float(RETRAINED)
        if done:
            yield c.RETRAINING_LAST_RESULT.name, of, result
            yield c.RETRAINING_LAST_END.name, of, float(ended)
        for decision, number in (("quorum", 2), ("started", 1), ("cool_down", 4)):
            yield c.RETRAINING_DECISIONS.name, of | {"decision": decision}, float(number if began else 0)
    yield c.RETRAINING_NOTIFICATIONS.name, {"outcome": "accepted"}, 7.0 if at >= RETRAINED else 0.0
