"""The command line: `mlops-exporter COMMAND`. Every flag of `run` has a twin in the environment."""

import argparse
import csv
import functools
import glob
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Never, NoReturn, TypeVar, get_args

from pydantic import ValidationError

from mlops_exporter import __version__, client, logs
from mlops_exporter.demo import run as demo
from mlops_exporter.doctor import findings
from mlops_exporter.doctor.examination import Subject, examine
from mlops_exporter.events.reasons import REASONS
from mlops_exporter.ingest.store import StoreError
from mlops_exporter.lifecycle import receiver
from mlops_exporter.lifecycle.mlflow import Mlflow, RegistryError
from mlops_exporter.logs import Notice, escaped
from mlops_exporter.profile import show
from mlops_exporter.profile.forecasts import level_name
from mlops_exporter.profile.hours import HOURS
from mlops_exporter.profile.profile import ProfileError, Task, load, save
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.replay.run import ReplayError, ReplayRequest, replay
from mlops_exporter.service import bundle, completion, healthcheck, service
from mlops_exporter.service import configuration as config
from mlops_exporter.service.bundle import BundleError
from mlops_exporter.service.healthcheck import Access
from mlops_exporter.service.memory import most_memory
from mlops_exporter.service.switches import switched
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.document import ConfigError, Document
from mlops_exporter.settings.durations import format_duration, parse_duration
from mlops_exporter.settings.registry import ARTIFACT, MlflowSettings
from mlops_exporter.settings.tables import TableSettings
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.files import needs_pyarrow
from mlops_exporter.tables.progress import Progress
from mlops_exporter.tables.reading import Reading
from mlops_exporter.web import config as web_config
from mlops_exporter.web.server import ListenError
from mlops_exporter.web.tls import server_context

DEFAULT_ADDRESS = ":10042"
RECEIVER_ADDRESS = ":10043"

_ON, _OFF = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})

Default = TypeVar("Default", bound=str | None)

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    if options.command is not _run:
        _accept_hang_up()
    if options.command not in (_run, _demo):  # a service takes SIGINT itself, and what starts it leaves nothing behind
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return int(options.command(options))
    except (
        ConfigError,
        BuildError,
        ProfileError,
        TableError,
        ListenError,
        ReplayError,
        StoreError,
        BundleError,
        RegistryError,
    ) as error:
        told = error if isinstance(error, ConfigError) else f"mlops-exporter: {error}"
        print(logs.escaped_lines(str(told)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    notices = logs.configure(options.log_level, options.log_format).notices
    hung_up = _remember_hang_up()
    settings, profiles = config.read(options.config_file)
    _warn_as_root()
    chosen = replace(
        _service_options(options, notices),
        config_file=options.config_file,
        lifecycle=options.web_enable_lifecycle,
        hung_up=hung_up,
    )
    service.run(settings, profiles, chosen)
    return 0


def _remember_hang_up() -> Callable[[], bool]:
    """Let SIGHUP be remembered rather than end the process, until the service heeds it."""
    seen = threading.Event()
    signal.signal(signal.SIGHUP, lambda _number, _frame: seen.set())
    _accept_hang_up()
    return seen.is_set


def _accept_hang_up() -> None:
    """Let SIGHUP come that `mlops_exporter.__main__` has kept waiting."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _demo(options: argparse.Namespace) -> int:
    notices = logs.configure(options.log_level, options.log_format).notices
    settings, profiles = config.read(demo.CONFIG)
    _warn_as_root()
    print(demo.introduction(options.web_listen_address[0]), flush=True)
    feed = functools.partial(demo.feed, speed=options.demo_speed)
    service.run(settings, profiles, _service_options(options, notices), feed)
    return 0


def _warn_as_root() -> None:
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        _log.warning("running as root, which is not needed: use an unprivileged user")


def _check(options: argparse.Namespace) -> int:
    if options.schema:
        print(json.dumps(Config.model_json_schema(), indent=2))
        return 0
    file = options.file or options.config_file
    settings, profiles = config.read(file)
    for model in settings.models:
        features = len(profiles[model.name].newest.features)
        versions = ", ".join(profiles[model.name].by_version)
        told = f"profile {model.profile}" if model.profile else f"profiles of {versions}" if versions else "no profile"
        print(escaped(f"{model.name}: {model.task}, {features} {'feature' if features == 1 else 'features'}, {told}"))
    if settings.broken:
        raise ConfigError([fault for faults in settings.broken.values() for fault in faults])
    count = len(settings.models)
    watched = f"{count} {'model' if count == 1 else 'models'}" if count else "no models: the machine alone is watched"
    print(f"{file}: good, {watched}")
    if settings.models:
        most = most_memory(settings) / 1e9
        print(f"memory: {most:.1f} GB once as much waits as limits.pending_predictions and remembered_labels allow")
    if options.web_config_file is not None:
        tls = web_config.read(options.web_config_file).tls_server_config
        if tls is not None:
            server_context(tls)
        print(f"{options.web_config_file}: good, {'with' if tls else 'without'} TLS")
    return 0


def _profile_build(options: argparse.Namespace) -> int:
    needs_pyarrow()
    from mlops_exporter.judging.drift import fitted_thresholds
    from mlops_exporter.profiling.build import BuildRequest, build  # which needs it, and is slow to load

    _refuse_overwriting(options.output, options.data)
    scores = options.scores if options.score is None else {"positive": options.score}
    request = BuildRequest(
        data=options.data,
        task=options.task,
        label=options.label,
        prediction=options.prediction,
        scores=scores,
        positive=options.positive,
        separator=options.separator,
        horizon=options.horizon,
        quantiles=options.quantiles,
        naive=options.naive,
        categories=options.categories,
        cutoffs=options.cutoffs,
        threshold=options.threshold,
        features=options.features,
        exclude=options.exclude,
        categorical=options.categorical,
        groups=options.groups,
        rated=options.outcomes,
        segments=options.segments,
        importances=options.importances,
        bins=options.bins,
        timing=_timing(options),
        model_version=options.model_version,
        types=_column_types(options.columns),
        reading=Reading(("", *options.missing), options.delimiter, options.decimal, options.encoding),
    )
    if options.engine == "spark":
        _need_spark()
        from mlops_exporter.spark import build_profile

        profile, notes = build_profile(request)
    else:
        profile, notes = build(request, Progress().tell)
    for note in notes:
        print(f"note: {escaped(note)}", file=sys.stderr)
    profile.thresholds = fitted_thresholds(profile)
    save(profile, options.output)
    if options.log_to_run is not None:
        Mlflow(_registry(options)).upload(options.log_to_run, options.artifact, options.output.read_bytes())
        print(f"run {options.log_to_run}: {options.artifact}")
    print(f"{options.output}: {profile.rows} rows, {len(profile.features)} features; profile show prints it")
    return 0


def _need_spark() -> None:
    """Raise BuildError where PySpark is not installed."""
    if find_spec("pyspark") is None:
        raise BuildError("--engine spark: needs PySpark: pip install 'mlops-exporter[spark]'")


def _timing(options: argparse.Namespace) -> Any:
    """Return how rows have a time, None where nothing is said of it. Raises BuildError."""
    from mlops_exporter.profile.hours import zone
    from mlops_exporter.profiling.hours import Timing

    if options.time is None:
        if options.rhythm or options.timezone:
            raise BuildError("--rhythm and --timezone: name the column with the time of each row by --time")
        return None
    timezone = options.timezone or "UTC"
    try:
        zone(timezone)
    except ValueError as error:
        raise BuildError(f"--timezone: {error}") from None
    return Timing(options.time, options.rhythm or "hour", timezone)


def _column_types(path: Path | None) -> dict[str, Any]:
    from mlops_exporter.profiling.inference import check_types

    if path is None:
        return {}
    return dict(check_types(Document.read(path, example="a type for each column, such as zip: categorical").content))


def _refuse_overwriting(output: Path, sources: Sequence[str | Path]) -> None:
    """Raise BuildError where what is to be written is what is to be read."""
    for pattern in sources:
        for source in [Path(name) for name in glob.glob(str(pattern), recursive=True)]:  # noqa: PTH207
            if output.exists() and source.exists() and output.samefile(source):
                raise BuildError(f"--output: {output} is what is read; name another file")


def _registry(options: argparse.Namespace) -> MlflowSettings:
    """Return how MLflow is asked; raises RegistryError where the flags do not tell."""
    try:
        return MlflowSettings.model_validate(
            {
                "url": options.mlflow_url or "",
                "username": options.mlflow_username,
                "password_file": options.mlflow_password_file,
                "token_file": options.mlflow_token_file,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--mlflow." + "".join(str(part) for part in first["loc"]).replace("_", "-")
        raise RegistryError(f"{flag.rstrip('.')}: {first['msg'].removeprefix('Value error, ')}") from None


def _profile_show(options: argparse.Namespace) -> int:
    print(show.describe(load(options.profile)))
    return 0


def _healthcheck(options: argparse.Namespace) -> int:
    try:
        healthy, answer = healthcheck.check(
            Access(
                options.web_listen_address[0],
                options.web_config_file,
                options.credentials_file,
                options.client_cert_file,
            )
        )
    except OSError as error:
        healthy, answer = False, str(error)
    print(answer, file=sys.stdout if healthy else sys.stderr)
    return 0 if healthy else 1


def _doctor(options: argparse.Namespace) -> int:
    logging.getLogger("mlops_exporter").addHandler(logging.NullHandler())  # what is wrong is a finding, not a log line
    found = examine(
        Subject(
            options.config_file,
            tuple(options.web_listen_address),
            options.web_telemetry_path,
            options.web_config_file,
            options.credentials_file,
            options.client_cert_file,
            options.prometheus_url,
        )
    )
    if options.json:
        print(findings.as_json(found))
    else:
        on_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns
        print("\n".join(findings.for_terminal(found, width) if on_terminal else findings.as_lines(found)))
    return int(any(finding.verdict == "problem" for finding in found))


def _replay(options: argparse.Namespace) -> int:
    settings, profiles = config.read(options.config_file)
    patterns = [pattern for pattern in options.events if not _is_table(pattern)]
    paths = [Path(path) for pattern in patterns for path in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
    if patterns and not paths:
        raise ReplayError(f"no file matches {', '.join(patterns)}")
    _refuse_overwriting(options.output, options.events)
    labels = {"job": "mlops-exporter", "instance": "replay", **dict(options.label)}
    tables = [_table(place, options, settings) for place in options.events if _is_table(place)]
    if unknown := set(options.source) - {source.name for source in settings.sources if source.table is not None}:
        raise ReplayError(f"--source {', '.join(sorted(unknown))}: no source of that name with a table is configured")
    tables += [
        source.table for source in settings.sources if source.name in options.source and source.table is not None
    ]
    if not paths and not tables:
        raise ReplayError("nothing to replay: --events names files, --source a configured table")
    progress = Progress()
    request = ReplayRequest(
        paths,
        options.output,
        options.step,
        options.lateness,
        labels,
        tables,
        lambda events: progress.tell(events, None),
    )
    done = replay(request, settings, profiles)
    progress.clear()
    for reason, count in done.refused.items():
        print(f"note: {count} events refused as {reason}: {REASONS[reason]}", file=sys.stderr)
    if done.late:
        print(
            f"note: {done.late} events were more than --lateness={format_duration(options.lateness)} out of order; "
            "they are counted, but from a later sample on than their time",
            file=sys.stderr,
        )
    begin, end = (
        datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds") for moment in (done.begin, done.end)
    )
    print(
        f"{options.output}: {done.accepted} events, {done.samples} samples of {done.series} series, {begin} to {end}\n"
        f"next: promtool tsdb create-blocks-from openmetrics {options.output} DIRECTORY"
    )
    return 0


def _is_table(place: str) -> bool:
    """Whether a place of events is a table: a file with columns, a directory, or in an object store."""
    return "://" in place or place.lower().endswith(
        (".parquet", ".pq", ".csv", ".csv.gz", ".arrow", ".feather", ".ipc")
    )


def _table(place: str, options: argparse.Namespace, settings: Config) -> TableSettings:
    """Return what rows that the flags name mean: columns are called like members of an event unless a flag says so."""
    from mlops_exporter.tables.pushed import names_at

    names = [model.name for model in settings.models]
    model = options.model or (names[0] if len(names) == 1 else None)
    if model not in names:
        raise ReplayError(f"{place}: whose events are these? --model names one of {', '.join(names)}")
    there = names_at(place)
    named = dict(options.column)
    columns: dict[str, Any] = {name: name for name in COLUMNS if name in there}
    columns |= {name: column for name, column in named.items() if column in there}
    if options.groups is not None:
        columns["groups"] = options.groups
    if options.scores is not None:
        columns["score" if isinstance(options.scores, str) else "scores"] = options.scores
    if options.quantiles is not None:
        columns["quantiles"] = {level_name(level): column for level, column in options.quantiles.items()}
    return TableSettings.model_validate(
        {"path": place, "model": model, "columns": columns, "timezone": options.timezone},
    )


REFUSED_STATUS = 3
"""Exit status of `push` where all was sent, and some rows were refused."""


COLUMNS = ("id", "ts", "version", "prediction", "score", "label", "latency_seconds", "error")
"""What a column may be of an event."""

NAMED_COLUMNS = ("horizon", "naive", "series", "target_ts", "categories")
"""What a column may be of forecasts and of lists, where it is named: other tables have features called so."""


def _push(options: argparse.Namespace) -> int:
    needs_pyarrow()
    from mlops_exporter.tables.pushed import Pushed

    reading = Reading(("", *options.missing), options.delimiter, options.decimal, options.encoding)
    rows = Pushed(options.table, reading)
    labels = None if options.labels is None else Pushed(options.labels, reading)
    token = None if options.token_file is None else _token(options.token_file)
    done = 0
    total = rows.rows() if labels is None else None
    progress = Progress()

    def tell(more: int) -> None:
        nonlocal done
        done += more
        progress.tell(done, total)

    columns = {
        **dict(options.column),
        **{
            name: getattr(options, name)
            for name in ("features", "groups", "scores")
            if getattr(options, name) is not None
        },
    }
    if options.quantiles is not None:
        columns["quantiles"] = {level_name(level): column for level, column in options.quantiles.items()}
    try:
        monitor = client.Monitor(
            options.url,
            model=options.model,
            version=options.model_version,
            token=token,
            ca_file=options.ca_file,
            cert_file=options.cert_file,
            key_file=options.key_file,
            timeout=options.timeout,
        )
        receipt = monitor.send_table(
            rows,
            labels,
            columns=columns,
            run=options.run_name,
            timezone=options.timezone,
            untyped=rows.untyped,
            wait_seconds=options.wait,
            told=tell,
        )
    except ValueError as error:
        raise TableError(str(error)) from error
    except client.TableNotSentError as error:
        print(json.dumps(error.receipt.as_dict()))
        print(f"mlops-exporter: not all was sent: {error}", file=sys.stderr)
        return 1
    print(json.dumps(receipt.as_dict()))
    return REFUSED_STATUS if receipt.refused else 0


def _token(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise TableError(f"--token-file: {file}: {getattr(error, 'strerror', None) or error}") from None


def _retrain(options: argparse.Namespace) -> int:
    logs.configure(options.log_level, options.log_format)
    config = receiver.read(options.config_file)
    _warn_as_root()
    receiver.run(config, receiver.Options(tuple(options.web_listen_address), options.web_config_file))
    return 0


def _service_options(options: argparse.Namespace, notices: Callable[[], Sequence[Notice]]) -> service.Options:
    off = {kind.name for kind in switched() if not getattr(options, f"collector_{kind.name}")}
    return service.Options(
        tuple(options.web_listen_address),
        options.web_telemetry_path,
        frozenset(off),
        web_config=options.web_config_file,
        max_requests=options.web_max_requests,
        max_connections=options.web_max_connections,
        reserved_connections=options.web_reserved_connections,
        notices=notices,
    )


def _bundle(options: argparse.Namespace) -> int:
    written = bundle.write(options.output, options.runbooks_url, options.grafana_url, dict(options.label))
    print(f"{len(written)} files are in {options.output}: docs/alerting.md says where each goes")
    return 0


def _completion(options: argparse.Namespace) -> int:
    print(completion.script(_parser(), options.shell), end="")
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\ntry {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mlops-exporter", description="Prometheus exporter for machine-learning models in production."
    )
    parser.add_argument("--version", action="version", version=f"mlops-exporter {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    run = commands.add_parser("run", help="run the exporter")
    _flag(run, "--config.file", "mlops-exporter.yml", "configuration file", type_=Path)
    _add_serving(run)
    _switch(
        run,
        "--web.enable-lifecycle",
        False,
        "reload the configuration at POST /-/reload, too; SIGHUP always does",
        run.error,
    )
    _add_collectors(run)
    run.set_defaults(command=_run)

    demonstration = commands.add_parser("demo", help="run the exporter on bundled data replayed as live traffic")
    _add_serving(demonstration)
    _flag(demonstration, "--demo.speed", "1", "how many times as fast as usual the traffic passes", type_=_speed)
    _add_collectors(demonstration)
    demonstration.set_defaults(command=_demo)

    check = commands.add_parser("check", help="validate a configuration and the profiles that it names")
    check.add_argument("file", type=Path, nargs="?", help="configuration file, in place of --config.file")
    _flag(check, "--config.file", "mlops-exporter.yml", "configuration file", type_=Path)
    check.add_argument("--schema", action="store_true", help="print the JSON Schema of the configuration, for editors")
    _add_web_config(check)
    check.set_defaults(command=_check)

    profile = commands.add_parser("profile", help="build or show a reference profile")
    kinds = profile.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_build(kinds.add_parser("build", help="build a profile from a table of reference data"))
    shown = kinds.add_parser("show", help="print a profile readably")
    shown.add_argument("profile", type=Path)
    shown.set_defaults(command=_profile_show)

    history = commands.add_parser("replay", help="turn past events into the metrics that they would have made")
    _flag(history, "--config.file", "mlops-exporter.yml", "configuration file", type_=Path)
    _add_replay(history)

    pushing = commands.add_parser("push", help="send the rows of a table to an exporter, wait, and print a receipt")
    _add_push(pushing)

    retraining = commands.add_parser("retrain", help="start retraining when Alertmanager tells enough reasons")
    _flag(retraining, "--config.file", "retrain.yml", "configuration file", type_=Path)
    _add_address(retraining, RECEIVER_ADDRESS)
    _add_web_config(retraining)
    _add_logging(retraining)
    retraining.set_defaults(command=_retrain)

    files = commands.add_parser("bundle", help="write rules, Alertmanager's files, dashboards and runbooks")
    files.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory that gets them")
    files.add_argument("--runbooks-url", metavar="URL", help="where the runbooks are for whoever is called at night")
    files.add_argument("--grafana-url", metavar="URL", help="Grafana's address, for links in alerts")
    files.add_argument(
        "--label",
        action="append",
        default=[],
        type=_label,
        metavar="NAME=VALUE",
        help="label of all alerts; repeatable",
    )
    files.set_defaults(command=_bundle)

    completed = commands.add_parser("completion", help="print what lets a shell complete this command line")
    completed.add_argument("shell", choices=list(completion.SHELLS))
    completed.set_defaults(command=_completion)

    health = commands.add_parser("healthcheck", help="exit 0 when the exporter is ready, 1 otherwise")
    _add_access(health)
    health.set_defaults(command=_healthcheck)

    doctor = commands.add_parser("doctor", help="find out why there is no data, or what else is wrong; changes nothing")
    _flag(doctor, "--config.file", "mlops-exporter.yml", "configuration file", type_=Path)
    _add_access(doctor)
    _flag(doctor, "--web.telemetry-path", "/metrics", "path under which the metrics are")
    _flag(doctor, "--prometheus.url", None, "Prometheus whose scrape and rules are examined")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(command=_doctor)
    return parser


def _add_serving(parser: argparse.ArgumentParser) -> None:
    _add_address(parser)
    _add_web_config(parser)
    _flag(parser, "--web.telemetry-path", "/metrics", "path under which the metrics are")
    _flag(parser, "--web.max-requests", "40", "scrapes at one time, 0 for any number", type_=_count)
    _flag(parser, "--web.max-connections", "512", "connections at one time; idle ones make room", type_=_some)
    _flag(
        parser,
        "--web.reserved-connections",
        "32",
        "connections beyond them, for scrapes and /-/ alone",
        type_=_count,
    )
    _add_logging(parser)


def _add_collectors(parser: argparse.ArgumentParser) -> None:
    """Add the switches of the collectors, last in the help, so that they hide no other flag."""
    parser.usage = "%(prog)s [FLAG …] [--collector.NAME | --no-collector.NAME …]"
    group = parser.add_argument_group("collectors", "each can be switched on and, with --no-, off")
    for kind in switched():
        _switch(group, f"--collector.{kind.name}", kind.by_default, f"export {kind.about}", parser.error)


def _add_logging(parser: argparse.ArgumentParser) -> None:
    _flag(
        parser,
        "--log.level",
        "info",
        "least severe level that is logged",
        choices=["debug", "info", "warning", "error"],
    )
    _flag(parser, "--log.format", "logfmt", "format of the log lines", choices=["logfmt", "json"])


def _add_access(parser: argparse.ArgumentParser) -> None:
    _add_address(parser)
    _add_web_config(parser)
    _flag(parser, "--credentials.file", None, "file with USER:PASSWORD, where basic_auth_users are set", type_=Path)
    _flag(parser, "--client.cert-file", None, "PEM file with certificate and key, where clients need one", type_=Path)


def _add_web_config(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "--web.config.file", None, "TLS, passwords, headers and rate limit", type_=Path)


def _add_address(parser: argparse.ArgumentParser, default: str = DEFAULT_ADDRESS) -> None:
    parser.add_argument(
        "--web.listen-address",
        dest="web_listen_address",
        action=_Repeated,
        default=_environment("--web.listen-address", default).split(","),
        metavar="HOST:PORT",
        help=f"address to listen on, may be repeated (default {default}; MLOPS_EXPORTER_WEB_LISTEN_ADDRESS)",
    )


class _Repeated(argparse.Action):
    """Collect repeated values; the first one given replaces the default."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        given = [] if getattr(namespace, self.dest) is self.default else getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*given, values])


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="PLACE",
        help="CSV, NDJSON (either with .gz), Parquet or Arrow: files, globs or directories, also s3://, gs://, abfs://",
    )
    parser.add_argument(
        "--engine",
        choices=["here", "spark"],
        default="here",
        help="who reads the table: this process, or the executors of the Spark that spark-submit names (default here)",
    )
    parser.add_argument("--task", choices=list(get_args(Task)), required=True)
    parser.add_argument("--label", metavar="COLUMN", help="column of the true class or number, or of relevant items")
    parser.add_argument("--prediction", metavar="COLUMN", help="column of the predicted class or number, or of lists")
    scores = parser.add_mutually_exclusive_group()
    scores.add_argument(
        "--score",
        metavar="COLUMN",
        help="column of the positive class's probability (binary), or of the items' scores (ranking)",
    )
    scores.add_argument(
        "--scores",
        type=_class_columns,
        default={},
        metavar="CLASS=COLUMN,…",
        help="column of each class's probability (multiclass, multilabel)",
    )
    parser.add_argument("--horizon", metavar="COLUMN", help="column of how far ahead a forecast looks (forecast)")
    parser.add_argument(
        "--quantiles",
        type=_quantile_columns,
        default={},
        metavar="LEVEL=COLUMN,…",
        help="columns of announced quantiles, such as 0.1=low,0.9=high (regression, forecast)",
    )
    parser.add_argument(
        "--naive", metavar="COLUMN", help="column of a forecast that costs nothing, as the last value known (forecast)"
    )
    parser.add_argument("--positive", metavar="CLASS", help="the positive class (binary)")
    parser.add_argument(
        "--separator",
        type=_separator,
        help="what stands between classes in a text such as a|b, where sets of classes are no lists (multilabel); or "
        "between items (ranking)",
    )
    parser.add_argument("--categories", metavar="COLUMN", help="column of the items' categories (ranking)")
    parser.add_argument(
        "--cutoffs",
        type=_positions,
        default=(10,),
        metavar="K,…",
        help="positions up to which metrics of lists look (ranking; default 10)",
    )
    parser.add_argument(
        "--threshold", type=_probability, default=0.5, help="score from which on positive is predicted (default 0.5)"
    )
    parser.add_argument(
        "--features", type=_names, default=(), metavar="A,B", help="feature columns (default: the rest)"
    )
    parser.add_argument("--exclude", type=_names, default=(), metavar="A,B", help="columns that are no features")
    parser.add_argument(
        "--categorical", type=_names, default=(), metavar="A,B", help="features whose numbers are codes"
    )
    parser.add_argument(
        "--columns",
        type=Path,
        metavar="FILE",
        help="YAML file with the types of columns, as in `zip: categorical`: numeric, categorical or exclude",
    )
    _add_reading(parser)
    parser.add_argument("--groups", type=_names, default=(), metavar="A,B", help="columns of sensitive attributes")
    parser.add_argument(
        "--outcomes",
        type=_names,
        default=(),
        metavar="A,B",
        help="columns of the numbers by which answers are rated, called as the outcomes of the configuration",
    )
    parser.add_argument(
        "--segments",
        type=_segments,
        default={},
        metavar="A,B=100|500,A*B",
        help="slices whose drift is to be told, as in the configuration: features or pairs, numbers with their edges "
        "or cut where the bins are",
    )
    parser.add_argument(
        "--importances",
        type=_weights,
        default={},
        metavar="A=0.5,B=0.3",
        help="how much each feature matters to the model (default: from an additive model of its outputs)",
    )
    parser.add_argument(
        "--bins", type=_bins, default=10, help="exported bins per numeric feature (2 to 50, default 10)"
    )
    parser.add_argument(
        "--time", metavar="COLUMN", help="column with the time of each row: the reference is by hour, too"
    )
    parser.add_argument(
        "--rhythm", choices=HOURS, help="hours of the day (default) or of the week, which needs rows of several weeks"
    )
    parser.add_argument(
        "--timezone", metavar="ZONE", help="zone of the hours, and of times that say none, as Europe/Berlin (UTC)"
    )
    parser.add_argument("--model-version", default="default", help="version of the model that the profile is for")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--log-to-run", metavar="RUN_ID", help="put the profile to the artifacts of a run of MLflow, too"
    )
    parser.add_argument("--artifact", default=ARTIFACT, help=f"its path there (default {ARTIFACT})")
    _flag(parser, "--mlflow.url", os.environ.get("MLFLOW_TRACKING_URI"), "MLflow's tracking server")
    _flag(parser, "--mlflow.username", None, "name of its basic authentication")
    _flag(parser, "--mlflow.password-file", None, "file with the password", type_=Path)
    _flag(parser, "--mlflow.token-file", None, "file with a bearer token instead", type_=Path)
    parser.set_defaults(command=_profile_build)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--missing",
        type=_names,
        default=(),
        metavar="A,B",
        help="texts that mean a missing value, here and in events, such as NA; an empty cell always does",
    )
    parser.add_argument("--delimiter", type=_character, help="what parts the cells of CSV (default: a comma)")
    parser.add_argument("--decimal", choices=[".", ","], default=".", help="decimal mark of CSV (default: .)")
    parser.add_argument("--encoding", default="utf-8", help="encoding of CSV, such as latin-1 (default: utf-8)")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--events",
        nargs="+",
        default=[],
        metavar="FILE",
        help="NDJSON files, also .gz, tables of Parquet, CSV or Arrow, or patterns for them; each in order of ts",
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME",
        help="source of the configuration with a table; repeatable",
    )
    parser.add_argument("--model", help="model whose events the rows of --events are, where several are configured")
    _add_columns(parser)
    parser.add_argument("--output", type=Path, required=True, help="OpenMetrics file to write")
    parser.add_argument("--step", type=_span, default=60.0, help="time between samples (default 1m)")
    parser.add_argument(
        "--lateness", type=_span, default=300.0, help="by how much a file may be out of order (default 5m)"
    )
    parser.add_argument(
        "--label",
        type=_label,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="label of every series, as a scrape would add (default job=mlops-exporter and instance=replay)",
    )
    parser.set_defaults(command=_replay)


def _add_push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table",
        nargs="+",
        required=True,
        metavar="PLACE",
        help="files, globs or directories of Parquet, CSV, NDJSON or Arrow; also s3://, gs://, abfs://",
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="PLACE", help="a table of id, label and perhaps ts, sent after it"
    )
    parser.add_argument("--model", required=True, help="model whose predictions the rows are")
    parser.add_argument("--model-version", help="its version, where no column tells it")
    _flag(parser, "--url", "http://127.0.0.1:10042", "the exporter")
    _add_columns(parser)
    parser.add_argument("--features", type=_names, metavar="COLUMNS", help="columns of features (default: all others)")
    parser.add_argument(
        "--run", dest="run_name", help="name of the job's run: the same one counts once (default: a digest of the rows)"
    )
    parser.add_argument("--wait", type=_span, default=3600.0, help="how long a chunk is tried (default 1h)")
    parser.add_argument("--timeout", type=_span, default=30.0, help="of one request (default 30s)")
    _flag(parser, "--token-file", None, "file with a bearer token", type_=Path)
    parser.add_argument("--ca-file", help="certificates (PEM) that vouch for the exporter")
    parser.add_argument("--cert-file", help="certificate (PEM) that the exporter wants to see")
    parser.add_argument("--key-file", help="its key, where that is in a file of its own")
    _add_reading(parser)
    parser.set_defaults(command=_push)


def _add_columns(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what the columns of a table are."""
    parser.add_argument(
        "--column",
        type=_column,
        action="append",
        default=[],
        metavar="WHAT=COLUMN",
        help="column of id, ts, version, prediction, score, label, latency_seconds or error (default: of that name), "
        "or of horizon, naive, series or target_ts of a forecast",
    )
    parser.add_argument("--groups", type=_names, metavar="COLUMNS", help="columns of sensitive attributes")
    parser.add_argument(
        "--scores",
        type=lambda text: _class_columns(text) if "=" in text else text,
        metavar="CLASS=COLUMN,…",
        help="column of each class's score; of lists, the column of their items' scores",
    )
    parser.add_argument(
        "--quantiles", type=_quantile_columns, metavar="LEVEL=COLUMN,…", help="columns of announced quantiles"
    )
    parser.add_argument("--timezone", default="UTC", help="of times that name none (default UTC)")


def _column(text: str) -> tuple[str, str]:
    name, separator, column = text.partition("=")
    known = (*COLUMNS, *NAMED_COLUMNS)
    if not separator or not column or name not in known:
        raise argparse.ArgumentTypeError(f"{text!r}: write WHAT=COLUMN, WHAT one of {', '.join(known)}")
    return name, column


def _span(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write 1s or more")
    return seconds


def _label(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=VALUE, the name of letters, digits and _")
    return name, value


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number from 0 to 1")
    return value


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number above 0 and up to 100")
    return speed


def _names(text: str) -> tuple[str, ...]:
    """Return names parted by commas; one with a comma in it stands in double quotes."""
    row = next(csv.reader([text], skipinitialspace=True), [""])
    return tuple(name.strip() for name in row if name.strip())


def _segments(text: str) -> dict[str, list[float]]:
    found = {}
    for part in _names(text):
        name, _, edges = part.partition("=")
        try:
            found[name.strip()] = [float(edge) for edge in edges.split("|") if edge.strip()]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{part!r}: edges are numbers, as in amount=100|500") from None
        if sorted(set(found[name.strip()])) != found[name.strip()] or ("*" in name and edges):
            raise argparse.ArgumentTypeError(f"{part!r}: edges ascend, and belong to a feature, not to a pair")
    return found


def _character(text: str) -> str:
    found = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write one character, or tab")
    return found


def _separator(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("write what stands between two classes, such as | or ;")
    return text


def _positions(text: str) -> tuple[int, ...]:
    names = _names(text)
    if not names or not all(name.isdecimal() for name in names):
        raise argparse.ArgumentTypeError(f"{text!r}: write positions, as in 5,10")
    return tuple(map(int, names))


def _class_columns(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in _names(text)]
    if not all(separator and name and column for name, separator, column in pairs):
        raise argparse.ArgumentTypeError(f"{text!r}: write CLASS=COLUMN,CLASS=COLUMN,…")
    return {name: column for name, _, column in pairs}


def _quantile_columns(text: str) -> dict[float, str]:
    try:
        found = {float(level): column for level, column in _class_columns(text).items()}
    except (ValueError, argparse.ArgumentTypeError):
        found = {}
    if not found or not all(0 < level < 1 for level in found):
        raise argparse.ArgumentTypeError(f"{text!r}: write LEVEL=COLUMN,LEVEL=COLUMN,… with levels between 0 and 1")
    return found


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number of 0 or more")
    return int(text)


def _some(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number of 1 or more")
    return int(text)


def _weights(text: str) -> dict[str, float]:
    try:
        weights = {name: float(weight) for name, weight in _class_columns(text).items()}
    except ValueError:
        weights = {}
    if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write FEATURE=NUMBER,FEATURE=NUMBER,… with numbers of 0 or more")
    return weights


def _bins(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= 50:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number from 2 to 50")
    return int(text)


def _flag(
    parser: argparse.ArgumentParser,
    flag: str,
    default: str | None,
    help_: str,
    *,
    type_: Callable[[str], Any] = str,
    choices: list[str] | None = None,
) -> None:
    """Add a flag whose default may come from the environment; argparse turns it into its type, and reports it."""
    value = _environment(flag, default)
    if choices is not None and value not in choices:
        parser.error(f"{_variable(flag)}: {value!r} is none of {', '.join(choices)}")
    parser.add_argument(
        flag,
        dest=_destination(flag),
        type=type_,
        default=value,
        choices=choices,
        help=f"{help_} ({'' if default is None else f'default {default}; '}{_variable(flag)})",
    )


def _switch(
    parser: argparse._ActionsContainer, flag: str, default: bool, help_: str, fail: Callable[[str], Never]
) -> None:
    """Add a flag with its opposite (`--no-…`), whose default may come from the environment."""
    value = _environment(flag, str(default)).lower()
    if value not in _ON | _OFF:
        fail(f"{_variable(flag)}: {value!r} is neither true nor false")
    parser.add_argument(
        flag,
        dest=_destination(flag),
        action=argparse.BooleanOptionalAction,
        default=value in _ON,
        help=help_,
    )


def _destination(flag: str) -> str:
    return flag.lstrip("-").replace(".", "_").replace("-", "_")


def _variable(flag: str) -> str:
    return f"MLOPS_EXPORTER_{_destination(flag).upper()}"


def _environment(flag: str, default: Default) -> str | Default:
    return os.environ.get(_variable(flag), default)
