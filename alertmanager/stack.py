"""Makes alertmanager/stack.yml from alertmanager.yml: the same, but every receiver's messages go to the sink.

python -m alertmanager.stack, also run by `make rules`.
"""

import json
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parent
SINK = "http://notifications:9095"
WITHIN = "http://retraining:10043/"
"""A receiver that the stack runs itself is sent to as well."""

_HEADER = """\
# What `make stack` and docker-compose.yml run: alertmanager.yml with every receiver's messages sent to the page of
# alertmanager/sink.py, so that no secret is needed and nothing leaves the machine. Made by `make rules`.
"""
_TEXT = {
    "color": '{{ template "mlops.color" . }}',
    "title": '{{ template "mlops.title" . }}',
    "title_link": '{{ template "mlops.link" . }}',
    "text": '{{ template "mlops.plain" . }}',
}


def stack() -> str:
    """Return the text of stack.yml."""
    shipped: dict[str, Any] = yaml.safe_load((DIRECTORY / "alertmanager.yml").read_text())
    config = json.loads(json.dumps(shipped))  # without the sharing of YAML's anchors
    config["global"] = {"resolve_timeout": config["global"]["resolve_timeout"]}
    config["receivers"] = [_receiver(receiver) for receiver in config["receivers"]]
    return _HEADER + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=10_000)


def _receiver(shipped: dict[str, Any]) -> dict[str, Any]:
    name = shipped["name"]
    chats = [
        {**chat, "api_url": f"{SINK}/slack/{chat['channel'].strip('#')}"} for chat in shipped.get("slack_configs", [])
    ]
    for kind in ("pagerduty", "email"):
        for one in shipped.get(f"{kind}_configs", []):
            resolved = one.get("send_resolved", kind == "pagerduty")
            chats.append({"api_url": f"{SINK}/{kind}/{name}", "channel": name, "send_resolved": resolved, **_TEXT})
    hooks = [
        {"url": f"{SINK}/webhook/{name}", "send_resolved": hook.get("send_resolved", True)}
        for hook in shipped.get("webhook_configs", [])
    ]
    hooks += [hook for hook in shipped.get("webhook_configs", []) if hook["url"].startswith(WITHIN)]
    made: dict[str, Any] = {"name": name}
    if chats:
        made["slack_configs"] = chats
    if hooks:
        made["webhook_configs"] = hooks
    return made


if __name__ == "__main__":
    (DIRECTORY / "stack.yml").write_text(stack())
