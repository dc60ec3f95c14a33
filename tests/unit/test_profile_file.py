"""The profile file: what it holds and does not hold, its digest, its errors, how it prints, its cost in memory."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mlops_exporter.profile.profile import Profile, ProfileError, load, save
from mlops_exporter.profile.show import describe
from mlops_exporter.profiling.build import BuildRequest, build
from tests.models import profiles

SECRET = "Grace Hopper"


def table(directory: Path, name: str = "train.csv", extra: str = "") -> Path:
    random = np.random.default_rng(0)
    lines = ["amount,country,name,score,label"]
    for number in range(500):
        country = "FR" if number % 5 == 0 else "DE"
        score = random.random()
        person = f"{SECRET} {number}"
        lines.append(
            f"{100 + random.normal():.9f},{country},{person},{score:.6f},{'yes' if random.random() < score else 'no'}"
        )
    path = directory / name
    path.write_text("\n".join(lines) + "\n" + extra)
    return path


def profile_of(path: Path, **request: Any) -> Profile:
    settings = {"task": "binary", "label": "label", "positive": "yes", "scores": {"positive": "score"}}
    profile, _ = build(BuildRequest(data=path, **(settings | request)))
    return profile


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    profile = profile_of(table(tmp_path))
    save(profile, tmp_path / "p.json")
    assert load(tmp_path / "p.json") == profile
    assert load(tmp_path / "p.json").digest == profile.digest


def test_no_raw_row_is_in_the_file(tmp_path: Path) -> None:
    path = table(tmp_path)
    save(profile_of(path), tmp_path / "p.json")
    text = (tmp_path / "p.json").read_text()
    assert SECRET not in text
    amounts = [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
    shared = [amount for amount in amounts if amount.rstrip("0") in text]
    assert len(shared) <= 51  # at most the fine bins' edges and extremes are values of the data


def test_one_line_per_feature(tmp_path: Path) -> None:
    save(profile_of(table(tmp_path)), tmp_path / "p.json")
    lines = (tmp_path / "p.json").read_text().splitlines()
    assert sum(line.startswith('"amount": ') for line in lines) == 1
    assert sum(line.startswith('"country": ') for line in lines) == 1


def test_the_digest_follows_the_content_and_not_the_provenance(tmp_path: Path) -> None:
    first = profile_of(table(tmp_path))
    again = profile_of(table(tmp_path, "copy.csv"), model_version="4")
    assert first.provenance != again.provenance
    assert first.digest == again.digest
    assert len({first.digest, *(changed.digest for changed in _changed(tmp_path))}) == 5


def _changed(directory: Path) -> list[Profile]:
    other_performance = profile_of(table(directory))
    other_performance.performance["accuracy"] += 1e-9
    return [
        profile_of(table(directory, extra=f"100.0,DE,{SECRET},0.5,yes\n")),
        profile_of(table(directory), bins=5),
        profile_of(table(directory), positive="no"),
        other_performance,
    ]


def _document(directory: Path) -> dict[str, Any]:
    save(profile_of(table(directory)), directory / "good.json")
    document: dict[str, Any] = json.loads((directory / "good.json").read_text())
    return document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 0}, "schema 0, but this version reads schema 1; build the profile again"),
        ({"schema": 99}, "schema 99, but this version reads schema 1"),
        ({"task": "clustering"}, "not a profile: Invalid enum value 'clustering'"),
        ({"rows": "many"}, "not a profile: Expected `int`"),
        ({"classes": ["no"]}, "a binary profile needs two classes"),
        ({"classes": ["yes", "no"]}, "its categories must be the classes"),
        ({"task": "ranking"}, "a profile says how lists are kept where its task is ranking, and only there"),
        ({"task": "regression"}, "a profile of regression has no classes and no scores"),
        ({"score_edges": [0.5, 0.1]}, "score_edges must ascend"),
        ({"surplus": 1}, "not a profile: Object contains unknown field `surplus`"),
    ],
)
def test_documents_that_are_no_profile(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(_document(tmp_path) | change))
    with pytest.raises(ProfileError, match=r"p\.json: ") as error:
        load(path)
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": 1}', b"null"])
def test_bytes_that_are_no_profile(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(ProfileError, match=r"p\.json: not a profile: "):
        load(tmp_path / "p.json")


def test_a_profile_cut_anywhere_is_refused(tmp_path: Path) -> None:
    _document(tmp_path)
    whole = (tmp_path / "good.json").read_bytes()
    for end in range(0, len(whole) - 2, 997):
        (tmp_path / "p.json").write_bytes(whole[:end])
        with pytest.raises(ProfileError):
            load(tmp_path / "p.json")


def test_a_missing_profile_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="make it with: mlops-exporter profile build"):
        load(tmp_path / "none.json")


def test_describe_prints_what_a_person_asks(tmp_path: Path) -> None:
    profile = profile_of(table(tmp_path), model_version="7")
    text = describe(profile)
    lines = text.splitlines()
    assert lines[0] == f"profile {profile.digest}  binary, model version 7, 500 rows"
    assert "from train.csv" in lines[1]
    assert "classes no, yes (positive: yes)" in lines
    assert ["accuracy", f"{profile.performance['accuracy']:.4g}"] in [line.split() for line in lines]
    assert "country: categorical" in lines
    assert f"  DE   80.0%  {'█' * 19}" in lines
    assert f"  FR   20.0%  {'█' * 5}" in lines
    assert any(line.startswith(("amount: numeric, mean 100.0", "amount: numeric, mean 99.")) for line in lines)
    assert "(score): numeric" in text
    assert "(label): categorical" in text
    assert SECRET not in text


_PEAK = r"""
import re, sys
from mlops_exporter.cli import main
status = main(sys.argv[1:])
with open("/proc/self/status") as file:  # not getrusage, whose peak includes the parent's before exec
    print(int(re.search(r"VmHWM:\s+(\d+)", file.read())[1]) // 1024, file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    """150 MB, most of it one long text per row that no other row has: within what 100 million rows may take."""
    path = tmp_path / "large.csv"
    random = np.random.default_rng(0)
    tails = [",".join(row) + "\n" for row in np.round(random.normal(size=(10_000, 4)), 5).astype(str).tolist()]
    size = rows = 0
    with path.open("w") as file:
        size += file.write("text,a,b,c,y\n")
        while size < 150e6:
            size += file.write("".join(f"{rows + i:0500d}x,{tail}" for i, tail in enumerate(tails)))
            rows += len(tails)
    begin = time.monotonic()
    command = ["profile", "build", "--data", str(path), "--task", "regression", "--label", "y"]
    command += ["--output", str(tmp_path / "p.json")]
    result = subprocess.run(
        [sys.executable, "-c", _PEAK, *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stderr
    note, peak = result.stderr.splitlines()
    assert note.startswith("note: text: left out")
    assert int(peak) < 400, f"{peak} MB"
    assert time.monotonic() - begin < 60
    assert load(tmp_path / "p.json").rows == rows
    path.unlink()


def test_a_profile_from_before_ties_were_looked_for_has_its_digest_and_ties_in_all_bins() -> None:
    former = profiles()["credit"]
    assert former.digest == "f28b59ad0535"
    assert former.tied.all()
    renewed = msgspec.structs.replace(former, tied_scores=[1])
    assert renewed.tied.tolist() == [False, True, False, False]
    assert renewed.digest != former.digest
