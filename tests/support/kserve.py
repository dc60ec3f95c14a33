"""CloudEvents as KServe's logger sends them, and what becomes of them."""

import json
from typing import Any

from mlops_exporter.settings.sources import KServeModel, KServeSettings
from mlops_exporter.sources.base import Content, Translated
from mlops_exporter.sources.kserve import Kind, KServe
from tests.models import NOW, profiles

STRUCTURED = Content("application/cloudevents+json")
TIME = "2023-11-14T22:13:20Z"


def kserve(models: dict[str, Any] | None = None, **settings: Any) -> KServe:
    mappings = {name: KServeModel(**mapping) for name, mapping in (models or {}).items()}
    return KServe(KServeSettings(models=mappings, **settings), profiles())


def cloud_event(kind: Kind, payload: Any, identifier: str = "a1", service: str = "credit", **more: Any) -> Any:
    return {
        "specversion": "1.0",
        "id": identifier,
        "source": "http://localhost:9081/",
        "type": f"org.kubeflow.serving.inference.{kind}",
        "time": TIME,
        "datacontenttype": "application/json",
        "inferenceservicename": service,
        "namespace": "ml",
        "component": "predictor",
        "endpoint": "",
        "data": payload,
        **more,
    }


def translate(adapter: KServe, content: Content, body: bytes, now: float = NOW) -> Translated:
    return adapter.translate(adapter.read(content, body), now)


def take(adapter: KServe, event: Any, now: float = NOW) -> Translated:
    return translate(adapter, STRUCTURED, json.dumps(event).encode(), now)


def events(taken: Translated) -> list[dict[str, Any]]:
    assert taken.refused == []
    return [json.loads(line) for line in taken.lines]
