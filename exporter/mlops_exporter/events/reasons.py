"""Why an event is refused, in words that say what would be right."""

from typing import Final, Literal

CLOCK_SKEW_SECONDS = 300.0
"""How far ahead of this clock a `ts` may be; it then counts as now."""

MAX_ID_LENGTH = 256

MAX_EVENT_BYTES = 1024 * 1024
"""Longest event: as Python objects, what is between its braces may take thirty times as much."""

MAX_CLOUD_EVENT_BYTES = 4 * MAX_EVENT_BYTES
"""Longest CloudEvent, all of its rows."""

MAX_CLOUD_EVENT_ROWS = 10_000
"""Most rows of a CloudEvent: they are joined and counted at one time."""

# Beyond these a number says nothing, and would take the digits of every later one from the sums it enters.
LONGEST_LATENCY = 1e6
"""Seconds."""

Reason = Literal[
    "malformed_json",
    "framed_by_schema_registry",
    "not_an_object",
    "missing_model",
    "unknown_model",
    "forbidden_model",
    "missing_id",
    "bad_id",
    "bad_version",
    "too_many_versions",
    "bad_timestamp",
    "future_timestamp",
    "bad_features",
    "bad_groups",
    "bad_score",
    "bad_prediction",
    "bad_label",
    "unknown_class",
    "bad_latency",
    "bad_outcome",
    "bad_horizon",
    "bad_quantile",
    "bad_naive",
    "bad_target",
    "bad_error",
    "nothing_to_count",
    "bad_cloud_event",
    "unknown_cloud_event_type",
    "bad_payload",
    "unnamed_columns",
    "unmapped_outputs",
    "rows_differ",
    "bad_arrow",
    "arrow_not_installed",
    "event_too_large",
    "unauthorized",
    "unsupported_type",
    "body_too_large",
    "too_many_events",
    "body_stalled",
    "bad_gzip",
    "bad_ledger",
    "other_profile",
    "other_layout",
    "bad_pane",
    "future_pane",
    "pane_too_old",
    "bad_cells",
    "too_many_ledgers",
]

OF_RANKINGS: Final[dict[Reason, str]] = {
    "bad_score": "`scores` is not a list with a number for each item of `prediction`, in its order",
    "bad_prediction": "`prediction` is not a list of ids, texts or numbers, the first shown first, or `categories` is "
    "not a list of as many",
    "bad_label": "`label` is neither a list of the ids that were relevant, nor an object of their gains from 0 to "
    "1000000",
}
"""What these mean of a ranking."""

REASONS: Final[dict[Reason, str]] = {
    "malformed_json": "the line is not JSON",
    "framed_by_schema_registry": "the message has the frame of a schema registry, and no JSON behind it: Avro and "
    "Protobuf are not read, send JSON",
    "not_an_object": "the JSON value is not an object",
    "missing_model": "there is no `model`",
    "unknown_model": "`model` is not in the configuration",
    "forbidden_model": "the token of the sender does not open `model`",
    "missing_id": "a label without a prediction in the same event has no `id` to find its prediction by",
    "bad_id": f"`id` is neither a string of 1 to {MAX_ID_LENGTH} characters nor a whole number",
    "bad_version": "`version` is neither a string of 1 to 64 characters nor a number",
    "too_many_versions": "the model already has as many versions as `limits.versions` allows, and a window shows "
    "something of each",
    "bad_timestamp": "`ts` is neither RFC 3339 with a time zone nor Unix seconds",
    "future_timestamp": f"`ts` is more than {CLOCK_SKEW_SECONDS:.0f} s ahead of the exporter's clock "
    "(milliseconds instead of seconds?)",
    "bad_features": "`features` is not an object",
    "bad_groups": "`groups` is not an object",
    "bad_score": "`score` (or a member of `scores`) is not a probability between 0 and 1, or `scores` do not add up "
    "to 1 (rounding to two digits is allowed for), or name a class that the profile lacks; of a ranking, "
    f"{OF_RANKINGS['bad_score']}",
    "bad_prediction": "`prediction` is not a number within a thousand times the reference's largest (regression), or "
    f"not a class; of a ranking, {OF_RANKINGS['bad_prediction']}",
    "bad_label": "`label` is not a number within a thousand times the reference's largest (regression), or not a "
    f"class; of a ranking, {OF_RANKINGS['bad_label']}",
    "unknown_class": "`prediction` or `label` is a class that the profile lacks",
    "bad_latency": f"`latency_seconds` is not a number from 0 to {LONGEST_LATENCY:.0f}",
    "bad_outcome": "`outcomes` is not an object of numbers, or one of them is not among the model's `outcomes` in the "
    "configuration, or not between its `low` and `high`",
    "bad_horizon": "`horizon` is not among those of the profile, or what needs one lacks it: a prediction of a "
    "forecast, outcomes of a target",
    "bad_quantile": "`quantiles` is not an object with a number for each quantile of the profile, by its level",
    "bad_naive": "`naive` is not a number within a thousand times the reference's largest",
    "bad_target": f"`series` is not a text of 1 to {MAX_ID_LENGTH} characters or a whole number, or `target_ts` is "
    "neither RFC 3339 with a time zone (a date alone is not) nor Unix seconds (milliseconds instead?), or one of the "
    "two is missing",
    "bad_error": "`error` is not a string",
    "nothing_to_count": "there are no features, no prediction, no score, no error, no label and no outcome",
    "bad_cloud_event": "the CloudEvent lacks `id`, `type` or `inferenceservicename`, or has no data",
    "unknown_cloud_event_type": "the CloudEvent's `type` is not org.kubeflow.serving.inference.request or .response, "
    "nor io.seldon.serving.inference.request or .response, nor azureml.inference.model_inputs or .model_outputs",
    "bad_payload": "the CloudEvent's data is neither the V1 nor the V2 inference protocol, or the shapes of its "
    "tensors do not fit each other or their data",
    "unnamed_columns": "the rows are lists, and `kserve.models.NAME.features` does not name just as many columns",
    "unmapped_outputs": "the response has several outputs or vectors, and `kserve.models.NAME.outputs` does not say "
    "which is the prediction, the score, or the scores (one per class)",
    "rows_differ": "request and response of this id have different numbers of rows",
    "bad_arrow": "the body is not an Arrow IPC stream, or a column is not of the type that its name calls for",
    "arrow_not_installed": "the body is an Arrow IPC stream, and the exporter lacks pyarrow: pip install "
    "'mlops-exporter[arrow]'",
    "event_too_large": f"the event is over {MAX_EVENT_BYTES} bytes, or the CloudEvent over four times as many or over "
    f"{MAX_CLOUD_EVENT_ROWS} rows",
    "unauthorized": "the request lacks a valid token (one for each body, as of here)",
    "unsupported_type": "the body is of a type or coding that is not taken",
    "body_too_large": "the body is over `limits.body_bytes`, before or after decompression",
    "too_many_events": "the body holds more events than `limits.body_events`",
    "body_stalled": "the body stopped coming",
    "bad_gzip": "the body is damaged gzip, or cut short",
    "bad_ledger": "the body is not a msgpack array of partial ledgers, or one of them lacks a field, has one too many "
    "or is of another format",
    "other_profile": "the ledger was counted by another profile than the version has here",
    "other_layout": "the cells of the ledger mean something else than those of the version here: settings of the model "
    "differ, or the versions of mlops-exporter",
    "bad_pane": "the pane is not as wide as one of the model's windows has them, does not start at a multiple of its "
    "width, or is wider than those of a window that shows it",
    "future_pane": f"the pane starts more than {CLOCK_SKEW_SECONDS:.0f} s ahead of the exporter's clock",
    "pane_too_old": "the pane ended longer than `limits.ledger_age` ago",
    "bad_cells": "no events add up to these cells: there are too few or too many, or one is NaN, negative, no whole "
    "number or too large",
    "too_many_ledgers": "the exporter remembers as many ledgers as `limits.remembered_ledgers` allows",
}


class Refused(Exception):  # noqa: N818 - it is the verdict on one event, not a failure
    """One event is refused."""

    def __init__(self, reason: Reason, told: str = "") -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.told = told
        """What was found, where that is known here."""


class TooManyEventsError(Exception):
    """A body holds more events than it may; the message says what to do."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body holds more than {limit} events (limits.body_events): send smaller batches")
