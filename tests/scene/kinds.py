"""What the scene's models of the other kinds were trained on, and what happens to them.

`topics` (several labels) misses one class more often in the last hour. `demand` forecasts one and seven days ahead and
announces intervals, which are too narrow for the longer horizon. `shop` ranks; `chat` answers, and its answers are
rated. The numbers are drawn, and the same every time.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.scene.shares import DRIFT_FROM, Event, Floats, Share

TOPICS = ("culture", "politics", "sports")
HORIZONS = {"1d": 86_400, "7d": 7 * 86_400}
_SHELVES = ("shoes", "hats", "coats")
_LIST = 8


def topics(rng: np.random.Generator, times: Floats, share: Share) -> Iterator[Event]:
    """Texts about several things at once."""
    for ts, words, chances in zip(
        times.tolist(),
        rng.lognormal(5, 0.5, len(times)).tolist(),
        rng.beta(0.3, 0.6, (len(times), len(TOPICS))),
        strict=True,
    ):
        said = _named(chances >= 0.5)
        if ts > DRIFT_FROM and "sports" in said and rng.random() < 0.3:
            said.remove("sports")
        yield {
            "version": "4",
            "features": {"words": round(words)},
            "scores": {name: round(float(chance), 4) for name, chance in zip(TOPICS, chances, strict=True)},
            "prediction": said,
            "label": _named(rng.random(len(TOPICS)) < chances),
        }


def _named(chosen: NDArray[np.bool_]) -> list[str]:
    return [name for name, each in zip(TOPICS, chosen, strict=True) if each]


def demand(rng: np.random.Generator, times: Floats, share: Share) -> Iterator[Event]:
    """Sales of a shop, one and seven days ahead."""
    for number, (ts, usual) in enumerate(zip(times.tolist(), rng.gamma(20, 6, len(times)).tolist(), strict=True)):
        horizon = ("1d", "7d")[number % 2]
        sold = usual + float(rng.normal(0, 12 if horizon == "1d" else 22))
        yield {
            "version": "2",
            "features": {"usual": round(usual, 1)},
            "series": f"shop-{number % 40}",
            "target_ts": round(ts) + HORIZONS[horizon],
            "horizon": horizon,
            "prediction": round(usual, 2),
            "quantiles": {"0.1": round(usual - 15.4, 2), "0.9": round(usual + 15.4, 2)},
            "naive": round(sold + float(rng.normal(0, 30)), 2),
            "label": round(sold, 2),
        }


def shop(rng: np.random.Generator, times: Floats, share: Share) -> Iterator[Event]:
    """Lists of things to buy, of which some are clicked: the first ones more often."""
    chances = 0.35 / np.sqrt(np.arange(1, _LIST + 1))
    for ts in times.tolist():
        shown = 0 if rng.random() < 0.01 else _LIST
        items = [f"i{number}" for number in rng.choice(500, shown, replace=False)]
        shelves = (0.5, 0.3, 0.2) if ts <= DRIFT_FROM else (0.2, 0.3, 0.5)
        yield {
            "version": "9",
            "features": {"hour": round(float(rng.uniform(0, 24)), 1)},
            "prediction": items,
            "scores": np.round(np.sort(rng.beta(2, 3, shown))[::-1], 4).tolist(),
            "categories": [str(name) for name in rng.choice(_SHELVES, shown, p=shelves)],
            "label": [item for item, chance in zip(items, chances, strict=False) if rng.random() < chance],
        }


def chat(rng: np.random.Generator, times: Floats, share: Share) -> Iterator[Event]:
    """Answers of a language model, which its judge likes less in the last hour."""
    for ts, asked in zip(times.tolist(), rng.lognormal(6, 0.6, len(times)).tolist(), strict=True):
        liked = 0.78 if ts <= DRIFT_FROM else 0.62
        outcomes = {
            "judge": round(float(rng.beta(8 * liked, 8 * (1 - liked))), 3),
            "tokens": int(min(8000, rng.lognormal(6, 0.5))),
        }
        if rng.random() < 0.3:
            outcomes["rating"] = int(rng.choice((1, 2, 3, 4, 5), p=(0.02, 0.03, 0.1, 0.35, 0.5)))
        yield {"version": "prompt-7", "features": {"asked": round(asked)}, "outcomes": outcomes}


def topics_row(event: Event) -> dict[str, Any]:
    """An event as a row of a training table."""
    scores = {f"p_{name}": score for name, score in event["scores"].items()}
    return {**event["features"], **scores, "said": event["prediction"], "label": event["label"]}


def demand_row(event: Event) -> dict[str, Any]:
    """An event as a row of a training table."""
    quantiles = dict(zip(("low", "high"), event["quantiles"].values(), strict=True))
    kept = {name: event[name] for name in ("horizon", "prediction", "naive", "label")}
    return {**event["features"], **quantiles, **kept}


def shop_row(event: Event) -> dict[str, Any]:
    """An event as a row of a training table."""
    kept = {name: event[name] for name in ("prediction", "scores", "categories", "label")}
    return {**event["features"], **kept}


def chat_row(event: Event) -> dict[str, Any]:
    """An event as a row of a training table."""
    rating = {"rating": event["outcomes"].get("rating")}
    return {**event["features"], **event["outcomes"], **rating}


KINDS = {
    "topics": (topics, topics_row),
    "demand": (demand, demand_row),
    "shop": (shop, shop_row),
    "chat": (chat, chat_row),
}

PROFILES = {
    "topics": ["--model-version=4", "--task=multilabel", "--label=label",
               "--scores=" + ",".join(f"{name}=p_{name}" for name in TOPICS)],
    "demand": ["--model-version=2", "--task=forecast", "--label=label", "--prediction=prediction",
               "--horizon=horizon", "--quantiles=0.1=low,0.9=high", "--naive=naive"],
    "shop": ["--model-version=9", "--task=ranking", "--label=label", "--prediction=prediction", "--score=scores",
             "--categories=categories", "--cutoffs=3,8"],
    "chat": ["--model-version=prompt-7", "--task=outcomes", "--outcomes=rating,judge,tokens"],
}  # fmt: skip

SETTINGS: dict[str, dict[str, Any]] = {
    "topics": {"task": "multilabel", "benchmarks": {"micro_f1": {"max_drop": 0.03}, "hamming_loss": {"max": 0.3}}},
    "demand": {"task": "forecast", "benchmarks": {"wape": {"max": 0.2}, "skill": {"min": 0.1}}},
    "shop": {
        "task": "ranking",
        "label_ttl": "5m",
        "benchmarks": {"ndcg@8": {"max_drop": 0.02}, "empty_list_rate": {"max": 0.05}},
    },
    "chat": {
        "task": "outcomes",
        "outcomes": {
            "rating": {"low": 1, "high": 5, "benchmark": 4.0},
            "judge": {"low": 0, "high": 1, "benchmark": 0.7},
            "tokens": {"low": 0, "high": 8000, "better": "lower", "benchmark": 900},
        },
    },
}


def train(directory: Path) -> None:
    """Write the training data of each model as DIRECTORY/MODEL.ndjson."""
    rng = np.random.default_rng(2)
    for model, (events, row) in KINDS.items():
        made = events(rng, np.zeros(3000), Share(model, 1.0, 0))
        (directory / f"{model}.ndjson").write_text("".join(f"{json.dumps(row(event))}\n" for event in made))
