"""Reads every dashboard over the scene with Grafana's own libraries: python -m tests.scene.check [--update].

The checker itself lives beside the repository, in shared/tools/grafana-checker, and needs Node and Chromium. Where it
is missing this says so and ends well. No line may be a PROBLEM, and what is read must be what the golden files hold.
"""

import argparse
import difflib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from tests.dashboards import DASHBOARDS, DIRECTORY
from tests.scene.fleet import standing
from tests.scene.shares import END
from tests.support.prometheus import Prometheus

GOLDEN = Path(__file__).parent / "golden"
CLOCK = Path(__file__).parent / "clock.mjs"
DRAWN = "13.2.3"
VERSIONS = {"10": "10.4.8", "11": "11.6.9", "12": "12.4.6", "13": DRAWN}
"""Grafana's libraries by major version; the last one draws too."""

DEFAULT = "15"
"""Seconds between scrapes as a data source has it that nobody has told; the scene's are four times as long."""

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlops-exporter" / "grafana-checker"
_PARTS = ("check.mjs", "types.mjs", "page")
_WITHOUT_DRAWING = (
    "export const BarGauge = null, BigValue = null, TimeSeries = null, VizRepeater = null, TableNG = null;\n"
)
# The checker speaks to Grafana 13. Up to 12 a transformation is not fetched first, and 12 looks for its toggles.
_AS_OLDER = (
    ("page/main.tsx", "transformation: async () => one,", "transformation: one,"),
    ("check.mjs", "grafanaBootData={settings:{}", "grafanaBootData={settings:{featureToggles:{}}"),
)
# A busy machine takes long to start a browser, and a table draws no row that is not on the screen.
_HERE = (
    ("check.mjs", "timeout: 60000", "timeout: 300000"),
    ("check.mjs", "height: 1200 }", "height: 6000 }"),
)
# The checker has one set of variables for all files. Here each has its own, so that one browser reads all of them.
_OWN_VARIABLES = (
    "check.mjs",
    "for (const path of positionals) {",
    "for (const asked of positionals) { const [path, own] = asked.split('?'), vars = {}; "
    "for (const [name, value] of new URLSearchParams(own)) (vars[name] ??= []).push(value);",
)


class View(NamedTuple):
    """A dashboard as somebody opens it: with these variables, the rest as they are by default."""

    name: str
    uid: str
    variables: tuple[tuple[str, str], ...] = ()


VIEWS = (
    *(View(uid, uid) for uid in DASHBOARDS),
    View("mlops-model-rent", "mlops-model", (("model", "rent"), ("version", "1"))),
    *(
        View(f"mlops-model-{model}", "mlops-model", (("model", model), ("version", version), ("metric", metric)))
        for model, version, metric in (
            ("credit", "2026.11", "accuracy"),
            ("intent", "007", "f1"),
            ("topics", "4", "micro_f1"),
            ("demand", "2", "wape"),
            ("shop", "9", "ndcg@8"),
        )
    ),
    View("mlops-data-credit", "mlops-data", (("model", "credit"), ("version", "2026.11"))),
    View("mlops-data-rent", "mlops-data", (("model", "rent"), ("version", "1"))),
    View("mlops-fairness-rent", "mlops-fairness", (("model", "rent"), ("version", "1"))),
)


def checker() -> Path | None:
    """Return the checker's folder: in shared/, beside the repository's main checkout."""
    git = ["git", "-C", str(CLOCK.parent), "rev-parse", "--path-format=absolute", "--git-common-dir"]
    asked = subprocess.run(git, capture_output=True, text=True)
    checkouts = [Path(__file__).parents[2], *([Path(asked.stdout.strip()).parent] if asked.returncode == 0 else [])]
    for checkout in checkouts:
        found = checkout.parent / "shared" / "tools" / "grafana-checker"
        if found.is_dir():
            return found
    return None


def missing() -> str | None:
    """Return what is needed and not there, None when all is."""
    if checker() is None:
        return "shared/tools/grafana-checker is not beside this checkout"
    for program in ("node", "npm", "chromium", "prometheus", "promtool"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


def install() -> Path:
    """Install the checker and all of Grafana's libraries outside the repository; returns the folder."""
    source = checker()
    assert source is not None
    package = json.loads((source / "package.json").read_text())
    for name in ("data", "schema", "ui"):
        package["dependencies"][f"@grafana/{name}"] = DRAWN
    for major, version in VERSIONS.items():
        if version != DRAWN:
            package["dependencies"][f"data-{major}"] = f"npm:@grafana/data@{version}"
    text = json.dumps(package, indent=2)
    _CACHE.mkdir(parents=True, exist_ok=True)
    wanted, done = _CACHE / "package.json", _CACHE / "installed.json"
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two installations at once leave neither
        if not done.exists() or done.read_text() != text:
            wanted.write_text(text)
            flags = ("--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", "--prefer-offline")
            subprocess.run(["nice", "npm", "install", "--silent", *flags], cwd=_CACHE, check=True)
            done.write_text(text)
    home = _CACHE / f"run-{os.getpid()}"  # others may run it at the same time
    home.mkdir(exist_ok=True)
    for major in VERSIONS:
        _lay_out(source, home / major)
    return home


def _lay_out(source: Path, home: Path) -> None:
    """Copy the checker to where it finds the libraries of one version; older ones read without drawing."""
    home.mkdir()
    for part in _PARTS:
        (shutil.copytree if (source / part).is_dir() else shutil.copy)(source / part, home / part)
    for part, now, then in (*_HERE, _OWN_VARIABLES):
        _put(home / part, now, then)
    if VERSIONS[home.name] == DRAWN:
        return
    for part, now, then in _AS_OLDER:
        _put(home / part, now, then)
    grafana = home / "node_modules" / "@grafana"
    (grafana / "ui").mkdir(parents=True)
    (grafana / "data").symlink_to(_CACHE / "node_modules" / f"data-{home.name}")
    (grafana / "ui" / "package.json").write_text('{"name": "@grafana/ui", "main": "index.js"}')
    for name in ("index.js", "unstable.js"):
        (grafana / "ui" / name).write_text(_WITHOUT_DRAWING)


def _put(file: Path, now: str, then: str) -> None:
    text = file.read_text()
    assert now in text, f"{file.name} of the checker has changed: {now!r} is no longer in it"
    file.chmod(0o644)
    file.write_text(text.replace(now, then))


def read(home: Path, major: str, server: Prometheus, views: Sequence[View], *more: str) -> dict[View, str]:
    """Return what a user reads in these views with one version of Grafana."""
    files = [f"{DIRECTORY / view.uid}.json?{urlencode(view.variables)}" for view in views]
    flags = ("--all", "--prometheus", server.url, "--scrape-interval", DEFAULT, "--from", "now-2h")
    done = subprocess.run(
        ["nice", "node", f"--import={CLOCK}", "check.mjs", *files, *flags, *more],
        cwd=home / major, env={**os.environ, "SCENE_END": str(END)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    parts = done.stdout.split("\n=== ")[1:]
    assert len(parts) == len(views), done.stdout + done.stderr
    return {view: _settled(part) for view, part in zip(views, parts, strict=True)}


def _settled(text: str) -> str:
    """Leave out what says nothing to a user: notes, how links are encoded, and shares that are 0 now, of which
    Prometheus' topk takes any."""
    text = text.replace("%24__all", "$__all").replace("%40", "@")
    text = re.sub(r"(?m)^    error: last .*", "    error: as labels of one moment happen to be ordered", text)
    lines = [line.rstrip() for line in text.splitlines()]
    nothing = re.compile(r"\d+ problems|.*NOTE override.*|.*: last 0% \(min 0%, max [^)]*\)")
    kept = [line for line in lines if not nothing.fullmatch(line)]
    return "\n".join(kept).strip() + "\n"


def compare(home: Path, server: Prometheus, update: bool, majors: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong: problems, and what reads otherwise than the golden files."""
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda major: read(home, major, server, VIEWS), majors))
    texts = {(major, view): text for major, part in zip(majors, found, strict=True) for view, text in part.items()}
    for (major, view), text in texts.items():
        yield from (f"{view.name}, Grafana {major}: {line}" for line in text.splitlines() if "PROBLEM" in line)
        golden = GOLDEN / f"{view.name}.txt"
        if update and VERSIONS[major] == DRAWN:
            golden.write_text(text)
    for (major, view), text in texts.items():
        wanted = _settled((GOLDEN / f"{view.name}.txt").read_text())
        for line in difflib.unified_diff(wanted.splitlines(), text.splitlines(), lineterm="", n=0):
            if not line.startswith(("---", "+++", "@@")):
                yield f"{view.name}, Grafana {major}: {line}"


def draw(home: Path, server: Prometheus, pictures: Path) -> None:
    """Draw each dashboard as it opens, dark and light, for a large, a small and a phone's screen."""
    whole = [View(uid, uid) for uid in DASHBOARDS]
    for theme in ("dark", "light"):
        for width in ("1920", "1280", "390"):
            where = str(pictures.absolute() / f"{theme}-{width}")
            read(home, max(VERSIONS), server, whole, "--theme", theme, "--width", width, "--out", where)


@contextmanager
def scene(directory: str | None) -> Iterator[Prometheus]:
    """Run the scene in `directory`, which keeps it, or in a temporary one."""
    with tempfile.TemporaryDirectory() as temporary, standing(Path(directory or f"{temporary}/scene")) as server:
        yield server


def main() -> int:
    """Compare, or write the golden files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the golden files")
    parser.add_argument("--scene", help="directory that keeps the scene from one run to the next")
    parser.add_argument("--newest", action="store_true", help="with the newest version of Grafana alone")
    parser.add_argument("--pictures", type=Path, help="draw all dashboards into this directory, and compare nothing")
    arguments = parser.parse_args()
    majors = [major for major, version in VERSIONS.items() if version == DRAWN or not arguments.newest]
    majors.reverse()  # the one that takes longest first
    if reason := missing():
        print(f"dashboards not read with Grafana's libraries: {reason}")
        return 0
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        installed = pool.submit(install)
        with scene(arguments.scene) as server:
            home = installed.result()
            print(f"the scene stands after {time.monotonic() - began:.0f} s", flush=True)
            try:
                if arguments.pictures:
                    draw(home, server, arguments.pictures)
                    return 0
                wrong = list(compare(home, server, arguments.update, majors))
            finally:
                shutil.rmtree(home)
    print("\n".join(wrong))
    read_with = ", ".join(VERSIONS[major] for major in sorted(majors))
    took = time.monotonic() - began
    print(f"{len(VIEWS)} views with Grafana {read_with}: {len(wrong)} faults, {took:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
