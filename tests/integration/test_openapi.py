"""The real exporter against its own description, docs/openapi.yaml."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from mlops_exporter.events.reasons import REASONS
from tests.models import profiles
from tests.support.exporter import Exporter, running_exporter, write_config

DESCRIPTION = Path(__file__).parents[2] / "docs" / "openapi.yaml"
CASES = [
    (method, path, mode)
    for path, methods in yaml.safe_load(DESCRIPTION.read_text())["paths"].items()
    for method, operation in methods.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or "parameters" in operation  # else there is nothing to get wrong
]

# Whether an event is taken depends on the configured models, of which the description knows nothing.
NOT_CHECKED = [positive_data_acceptance, negative_data_rejection]


@schemathesis.serializer("application/x-ndjson", "application/vnd.apache.arrow.stream", "application/vnd.msgpack")
def text(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.serializer("application/cloudevents+json", "application/cloudevents-batch+json")
def json_text(context: Any, value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    directory = tmp_path_factory.mktemp("exporter")
    write_config(directory)
    with running_exporter(directory) as running:
        yield running


@pytest.fixture(scope="module")
def description(exporter: Exporter) -> Any:
    content = yaml.safe_load(DESCRIPTION.read_text())
    content["components"]["schemas"]["Event"]["properties"]["model"]["enum"] = [*profiles(), "unknown"]
    content["components"]["schemas"]["CloudEvent"]["properties"]["inferenceservicename"]["enum"] = ["credit"]
    loaded = schemathesis.openapi.from_dict(content)
    loaded.config.update(base_url=exporter.url)
    return loaded


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_every_answer_is_as_described(description: Any, method: str, path: str, mode: GenerationMode) -> None:
    bodies = 100 if path == "/v1/events" else 15
    statuses = Counter[int]()

    @settings(
        max_examples=bodies, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=description[path][method].as_strategy(generation_mode=mode))
    def check(case: "schemathesis.Case[Any]") -> None:
        response = case.call_and_validate(excluded_checks=NOT_CHECKED, timeout=10)
        statuses[response.status_code] += 1

    check()
    if path == "/v1/events":
        assert statuses[400] > 5
        assert mode is GenerationMode.NEGATIVE or statuses[202] > 5


def test_the_reasons_are_all_there() -> None:
    content = yaml.safe_load(DESCRIPTION.read_text())
    assert content["components"]["schemas"]["Reason"]["enum"] == list(REASONS)


def test_the_description_has_every_route(exporter: Exporter) -> None:
    paths = yaml.safe_load(DESCRIPTION.read_text())["paths"]
    for path in paths:
        answer = httpx.request("OPTIONS", exporter.url + path, trust_env=False)
        allowed = {method.strip().lower() for method in answer.headers["allow"].split(",")} - {"head"}
        assert (answer.status_code, allowed) == (405, set(paths[path]))
    assert httpx.get(f"{exporter.url}/v2/events", trust_env=False).status_code == 404
