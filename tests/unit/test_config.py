"""Configurations that load, and what is said of those that do not."""

import json
import time
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from mlops_exporter import cli, demo
from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable, Variable
from mlops_exporter.profile.profile import Profile, Provenance, save
from mlops_exporter.service import configuration as config
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.document import ConfigError, Document
from mlops_exporter.settings.models import ModelSettings
from tests import golden
from tests.documents import settings_by_path

CLASSES = CategoricalVariable(["0", "1"], [5, 5, 0, 0, 0])
NUMBERS = NumericVariable([0.0, 1.0, 2.0], [0, 1], [0, 5, 5, 0, 0, 0], [0.5, 1.5], 1.0, 0.5)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with profiles: credit.json, prices.json, and credit-unlabelled.json without performance."""
    monkeypatch.chdir(tmp_path)
    origin = Provenance("", "", "3", "", "")
    features: dict[str, Variable] = {"amount": NUMBERS}
    credit = Profile(
        1,
        "binary",
        10,
        origin,
        features,
        classes=["0", "1"],
        label=CLASSES,
        prediction=CLASSES,
        performance={"accuracy": 0.9},
    )
    save(credit, tmp_path / "credit.json")
    credit.performance = {}
    save(credit, tmp_path / "credit-unlabelled.json")
    prices = Profile(1, "regression", 10, origin, features, label=NUMBERS, prediction=NUMBERS, performance={"mae": 1.0})
    save(prices, tmp_path / "prices.json")
    (tmp_path / "broken.json").write_text("{")
    document = json.loads((tmp_path / "credit.json").read_text())
    (tmp_path / "older.json").write_text(json.dumps(document | {"schema": 0}))
    return tmp_path


def read(directory: Path, text: str) -> Config:
    path = Path("mlops-exporter.yml")
    path.write_text(text)
    loaded, _ = config.read(path)
    return loaded


FULL = """
models:
  - name: credit
    task: binary                                # binary | multiclass | regression
    profile: credit.json
    windows: [15m, 1h, 24h]
    positive: "1"
    threshold: 0.5
    label_ttl: 30d
    benchmarks:
      accuracy: {min: 0.90}
      balanced_accuracy: {min: 0.8, max: 1}
    drift: {statistics: [psi, js, ks], false_alarm_rate: 0.01, min_effect: {psi: 0.1, js: 0.1, ks: 0.1}}
    min_samples: {performance: 50, drift: 200}
sources:
  - {name: push, http: {}}
limits: {pending_predictions: 1000, versions: 4, queue_events: 5000, body_bytes: 65536}
"""


def test_everything_that_can_be_said(directory: Path) -> None:
    loaded = read(directory, FULL)
    (model,) = loaded.models
    assert model.windows == [900.0, 3600.0, 86400.0]
    assert model.label_ttl == 30 * 86400.0
    assert model.benchmarks["balanced_accuracy"].max == 1.0
    assert model.min_samples.drift == 200
    assert loaded.limits.body_bytes == 65536


def test_little_needs_to_be_said(directory: Path) -> None:
    loaded = read(directory, "models: [{name: credit, task: binary, profile: credit.json}]")
    assert loaded == read(
        directory,
        """
        models:
          - {name: credit, task: binary, profile: credit.json, windows: [15m, 1h, 24h], threshold: 0.5, label_ttl: 30d,
             drift: {statistics: [psi, js, ks], false_alarm_rate: 0.01, min_effect: {psi: 0.1, js: 0.1, ks: 0.1}},
             min_samples: {performance: 30, drift: 100}}
        sources: [{name: push, http: {}}]
        limits: {pending_predictions: 10000000, versions: 16, queue_events: 100000, body_bytes: 16777216}
        """,
    )


def test_windows_come_in_any_order(directory: Path) -> None:
    loaded = read(directory, "models: [{name: m, task: binary, profile: credit.json, windows: [1h, 5m]}]")
    assert loaded.models[0].windows == [300.0, 3600.0]


@pytest.mark.parametrize(("lifetime", "delay"), [("1d", 86400.0), ("7d", 604800.0), ("30d", 604800.0)])
def test_a_label_is_expected_before_its_prediction_is_given_up(lifetime: str, delay: float) -> None:
    settings = ModelSettings.model_validate(
        {"name": "m", "task": "binary", "profile": "credit.json", "label_ttl": lifetime}
    )
    assert settings.label_delay == delay


@pytest.mark.parametrize("positive", ["1", "1.0", '"1"', '"1.0"'])
def test_classes_are_compared_as_strings(positive: str, directory: Path) -> None:
    loaded = read(directory, f"models: [{{name: m, task: binary, profile: credit.json, positive: {positive}}}]")
    assert loaded.models[0].positive == "1"


def test_profiles_are_beside_the_configuration(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "mlops-exporter.yml").write_text("models: [{name: m, task: binary, profile: credit.json}]")
    monkeypatch.chdir("/")
    _, profiles = config.read(directory / "mlops-exporter.yml")
    assert profiles["m"].newest.task == "binary"


GOOD = "{name: m, task: binary, profile: credit.json"

BAD = {
    "empty file": "",
    "only a comment": "# nothing yet\n",
    "not YAML": "models:\n  - name: [m\n    task: binary\n",
    "tab as indentation": "models:\n\t- name: m\n",
    "a list": "- name: m\n",
    "a scalar": "models\n",
    "model no mapping": "models: [credit]\n",
    "models no list": "models: {name: m, task: binary, profile: credit.json}\n",
    "unknown key at the top": f"models: [{GOOD}}}]\nlimit: {{versions: 3}}\n",
    "unknown key of a model": "models:\n  - name: m\n    task: binary\n    profile: credit.json\n    treshold: 0.4\n",
    "unknown key deep inside": f"models: [{GOOD}, drift: {{false_alarms: 0.01}}}}]\n",
    "unknown key without a near one": f"models: [{GOOD}, colour: red}}]\n",
    "key missing": "models:\n  - name: m\n    profile: credit.json\n",
    "task unknown": "models: [{name: m, task: clustering, profile: credit.json}]\n",
    "wrong type": f"models: [{GOOD}, threshold: high}}]\n",
    "number out of range": f"models: [{GOOD}, threshold: 1.5}}]\n",
    "name with a space": "models: [{name: my model, task: binary, profile: credit.json}]\n",
    "name is a number": "models: [{name: 7, task: binary, profile: credit.json}]\n",
    "bad duration": f"models: [{GOOD}, windows: [15min]}}]\n",
    "duration without a unit": f"models: [{GOOD}, label_ttl: 3600}}]\n",
    "windows no list": f"models: [{GOOD}, windows: 15m}}]\n",
    "window twice": f"models: [{GOOD}, windows: [1h, 60m]}}]\n",
    "window too short": f"models: [{GOOD}, windows: [500ms]}}]\n",
    "no window": f"models: [{GOOD}, windows: []}}]\n",
    "key twice": "models:\n  - name: m\n    task: binary\n    profile: credit.json\n    task: binary\n",
    "model names twice": f"models:\n  - {GOOD}}}\n  - {GOOD}}}\n",
    "source names twice": f"models: [{GOOD}}}]\nsources: [{{name: push, http: {{}}}}, {{name: push, http: {{}}}}]\n",
    "two http sources": f"models: [{GOOD}}}]\nsources: [{{name: a, http: {{}}}}, {{name: b, http: {{}}}}]\n",
    "source without a kind": f"models: [{GOOD}}}]\nsources:\n  - name: push\n",
    "rows of a probe a number": (
        f"models: [{GOOD}}}]\nprobes: [{{name: a, model: m, rows: 5, endpoint: {{mlflow: 'http://a'}}}}]\n"
    ),
    "rows of a probe of another database": (
        f"models: [{GOOD}}}]\nprobes:\n- name: a\n  model: m\n  endpoint: {{mlflow: 'http://a'}}\n"
        "  rows: {url: 'mysql://u:secret@h', querry: SELECT 1}\n"
    ),
    "benchmark of another task": f"models:\n  - {GOOD},\n     benchmarks: {{mae: {{max: 3}}}}}}\n",
    "benchmark misspelt": f"models:\n  - {GOOD},\n     benchmarks: {{acuracy: {{min: 0.9}}}}}}\n",
    "benchmark without bound": f"models: [{GOOD}, benchmarks: {{accuracy: {{}}}}}}]\n",
    "benchmark with two lower bounds": f"models: [{GOOD}, benchmarks: {{accuracy: {{min: 0.9, max_drop: 0.1}}}}}}]\n",
    "benchmark a number": f"models: [{GOOD}, benchmarks: {{accuracy: 0.9}}}}]\n",
    "max_drop below zero": f"models: [{GOOD}, benchmarks: {{accuracy: {{max_drop: -0.1}}}}}}]\n",
    "benchmark in percent": f"models: [{GOOD}, benchmarks: {{accuracy: {{min: 90}}, mcc: {{max_drop: 3}}}}}}]\n",
    "benchmark that nothing keeps": f"models: [{GOOD}, benchmarks: {{accuracy: {{min: 0.9, max: 0.1}}}}}}]\n",
    "benchmark in the wrong direction": f"models: [{GOOD}, benchmarks: {{accuracy: {{max: 0.9}}}}}}]\n",
    "fairness in the wrong direction": f"models: [{GOOD}, fairness: {{attributes: [{{name: amount, edges: [1]}}], "
    "benchmarks: {demographic_parity_ratio: {max: 0.8}, equalized_odds_difference: {min: 0.1}}}}]\n",
    "fairness that nothing keeps": f"models: [{GOOD}, fairness: {{attributes: [{{name: amount, edges: [1]}}], "
    "benchmarks: {demographic_parity_ratio: {min: 0.9, max: 0.8}}}}]\n",
    "costs of nothing": f"models: [{GOOD}, costs: {{}}}}]\n",
    "costs of a regression for classes": f"models: [{GOOD}, costs: {{over: 1, under: 2}}}}]\n",
    "costs of a class that is none": f"models: [{GOOD}, costs: {{matrix: {{yess: {{no: 3}}}}}}}}]\n",
    "cost that is no number": f"models: [{GOOD}, costs: {{matrix: {{0: 3, 1: {{0: dear}}}}}}}}]\n",
    "benchmark of costs without prices": f"models: [{GOOD}, benchmarks: {{cost: {{max: 3}}}}}}]\n",
    "benchmark of costs in the wrong direction": (
        f"models: [{GOOD}, costs: {{matrix: {{0: {{1: 3}}}}}}, benchmarks: {{cost: {{min: 3}}}}}}]\n"
    ),
    "benchmark of costs against the profile": (
        f"models: [{GOOD}, costs: {{matrix: {{0: {{1: 3}}}}}}, benchmarks: {{cost: {{max_increase: 3}}}}}}]\n"
    ),
    "benchmark that can never be judged": f"models: [{GOOD}, benchmarks: {{roc_auc: {{min: 0.9}}}}}}]\n",
    "max_drop without reference": "models:\n  - name: m\n    task: binary\n    profile: credit-unlabelled.json\n"
    "    benchmarks:\n      accuracy: {max_drop: 0.02}\n",
    "profile missing": "models:\n  - name: m\n    task: binary\n    profile: nowhere.json\n",
    "profile broken": "models: [{name: m, task: binary, profile: broken.json}]\n",
    "profile of an older schema": "models: [{name: m, task: binary, profile: older.json}]\n",
    "profile of another task": "models:\n  - name: m\n    task: binary\n    profile: prices.json\n",
    "positive not the profile's": "models:\n  - name: m\n    task: binary\n    profile: credit.json\n    positive: 0\n",
    "positive of a regression": "models: [{name: m, task: regression, profile: prices.json, positive: 1}]\n",
    "statistic unknown": f"models: [{GOOD}, drift: {{statistics: [psi, kl]}}}}]\n",
    "min_effect of an unknown statistic": f"models: [{GOOD}, drift: {{min_effect: {{kl: 0.1}}}}}}]\n",
    "false_alarm_rate too low": f"models: [{GOOD}, drift: {{false_alarm_rate: 0.0001}}}}]\n",
    "label_delay beyond label_ttl": f"models: [{GOOD}, label_delay: 2d, label_ttl: 1d}}]\n",
    "false_alarm_rate too high": f"models: [{GOOD}, drift: {{false_alarm_rate: 0.5}}}}]\n",
    "limit not whole": f"models: [{GOOD}}}]\nlimits: {{versions: 2.5}}\n",
    "nothing where a value belongs": f"models: [{GOOD}, windows: }}]\nlimits:\n",
    "five faults at once": "models:\n  - name: m\n    task: clustering\n    profile: nowhere.json\n    windows: [1x]\n"
    "    colour: red\nlimits:\n  versions: 0\n",
}


def faults(text: str) -> list[str]:
    Path("mlops-exporter.yml").write_text(text)
    with pytest.raises(ConfigError) as error:
        config.read(Path("mlops-exporter.yml"))
    assert str(error.value) == "\n".join(error.value.faults)
    return error.value.faults


def test_every_message_says_where_what_and_what_would_be_right(directory: Path) -> None:
    entries = [[f"--- {name}", text.rstrip(), ">>>", *faults(text), ""] for name, text in BAD.items()]
    golden.compare(golden.DIRECTORY / "config-errors.txt", "\n".join(line for entry in entries for line in entry))


@pytest.mark.parametrize("name", BAD)
def test_every_message_names_file_and_line(name: str, directory: Path) -> None:
    lines = BAD[name].count("\n") + 1
    for fault in faults(BAD[name]):
        file, line, _ = fault.split(":", 2)
        assert file == "mlops-exporter.yml"
        assert 1 <= int(line) <= lines


def test_nesting_without_end(directory: Path) -> None:
    assert faults("models: " + "[" * 2000 + "]" * 2000) == ["mlops-exporter.yml:1: nested too deeply, over 100 levels"]


def test_files_lie_beside_the_configuration(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the exporter is started."""
    kafka = "{bootstrap_servers: 'kafka:1', topics: [t], settings: {sasl.password_file: password}}"
    Path("mlops-exporter.yml").write_text(
        f"models: [{GOOD}}}]\nstate: {{path: state}}\nsources: [{{name: stream, kafka: {kafka}}}]\n"
    )
    Path("password").write_text("hunter2")
    (directory / "elsewhere").mkdir()
    monkeypatch.chdir(directory / "elsewhere")
    settings, _ = config.read(Path("../mlops-exporter.yml"))
    assert settings.state is not None
    assert settings.state.path.resolve() == directory.resolve() / "state"
    assert settings.sources[0].kafka is not None
    file = Path(str(settings.sources[0].kafka.settings["sasl.password_file"]))
    assert file.resolve() == directory.resolve() / "password"


def test_a_file_that_is_not_there(directory: Path) -> None:
    with pytest.raises(ConfigError, match=r"^nowhere\.yml: cannot be read: .*No such file"):
        config.read(Path("nowhere.yml"))


def test_limits_on_what_a_profile_brings(directory: Path) -> None:
    names = [f"c{number}" for number in range(12)]
    many = CategoricalVariable(names, [1] * 12 + [0, 0, 0])
    features: dict[str, Variable] = {"country": many, "city": many, "amount": NUMBERS}
    groups = {"sex": CategoricalVariable(["f", "m"], [6, 6, 0, 0, 0])}
    origin = Provenance("", "", "3", "", "")
    save(Profile(1, "multiclass", 12, origin, features, groups, classes=names), directory / "wide.json")
    model = "models: [{name: m, task: multiclass, profile: wide.json, fairness: {attributes: [sex, sex*country]}}]"
    fits = read(directory, f"{model}\nlimits: {{features: 3, categories: 12, classes: 12, groups: 40}}")
    assert fits.limits.groups == 40  # 3 * 13 and unknown
    with pytest.raises(ConfigError) as caught:
        read(directory, f"{model}\nlimits: {{features: 2, categories: 11, classes: 11, groups: 39}}")
    assert str(caught.value).splitlines() == [
        "mlops-exporter.yml:1: models[0].fairness: attributes: sex*country: 40 groups, but limits.groups is 39; "
        "use fewer, wider ones or raise the limit",
        *(
            f"mlops-exporter.yml:1: models[0].profile: has {has}: build it with fewer, or raise the limit"
            for has in (
                "3 features, more than limits.features of 2",
                "12 classes, more than limits.classes of 11",
                "12 categories of country, more than limits.categories of 11",
                "12 categories of city, more than limits.categories of 11",
            )
        ),
    ]


def test_every_key_says_what_it_is_for() -> None:
    for title, settings in settings_by_path("", Config):
        for name, field in settings.model_fields.items():
            assert field.description, f"{title}.{name}: give its Field a description"


def test_the_schema_for_editors_judges_as_the_reader_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--schema"]) == 0
    schema: Any = jsonschema_rs.validator_for(json.loads(capsys.readouterr().out))
    for text in (FULL, (Path(demo.__file__).parent / "mlops-exporter.yml").read_text()):
        assert not list(schema.iter_errors(yaml.safe_load(text)))
    for name in ("unknown key", "a duration without a unit", "text for a number"):
        assert not schema.is_valid(yaml.safe_load(MISWRITTEN[name])), name


MISWRITTEN = {
    "unknown key": "models: [{name: m, task: binary, profile: p.json, benchmark: {}}]",
    "a duration without a unit": "models: [{name: m, task: binary, profile: p.json, windows: [15]}]",
    "text for a number": "models: [{name: m, task: binary, profile: p.json, threshold: half}]",
}


def _aliases(form: str) -> str:
    lines = ["a0: &a0 " + form.format("x", "y")]
    lines += [f"a{n}: &a{n} " + form.format(f"*a{n - 1}", f"*a{n - 1}") for n in range(1, 60)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        _aliases("[{}, {}]"),
        _aliases("{{p: {}, q: {}}}"),
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60)),
        "models: &models [*models]\n",
        "models: [" + "1, " * 300_000 + "1]\n",
        "x: " + "y" * 3_000_000,
        "[" * 40_000 + "]" * 40_000,
        "- " * 90_000,
        "? " * 90_000,
        "models:\n" + "- a: b\n" * 49_000,
        "x: " + "9" * 1_900_000,
        "x: " + "1:" * 300_000 + "1",
        "x: !!int '" + "1:" * 300_000 + "1'",
        "x: 2001-01-01 00:00:00." + "9" * 1_000_000,
        "a: &a {" + ", ".join(f"k{n}: 1" for n in range(20_000)) + "}\n" + "".join(f"b{n}: *a\n" for n in range(9)),
    ],
    ids=[
        *(
            "lists",
            "mappings",
            "merged",
            "itself",
            "long",
            "large",
            "deep",
            "deep without brackets",
            "deep keys",
            "many",
        ),
        *("long number", "number to the base of 60", "the same in quotes", "long date", "wide mapping repeated"),
    ],
)
def test_a_file_that_says_too_much_is_refused_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bomb.yml"
    path.write_text(text)
    began = time.thread_time()
    with pytest.raises(ConfigError, match=r"over|deep|not YAML"):
        Document.read(path, example="models")
    assert time.thread_time() - began < 1
