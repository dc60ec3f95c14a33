"""The HTTP of the receiver: Alertmanager's webhook, metrics and health, behind a token or a password."""

import asyncio
import logging
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mlops_exporter.exposition.registry import Registry
from mlops_exporter.lifecycle.collector import RetrainingCollector
from mlops_exporter.lifecycle.evidence import UnreadableError
from mlops_exporter.lifecycle.record import Record
from mlops_exporter.lifecycle.retrainer import Retrainer
from mlops_exporter.settings.document import ConfigError, Document
from mlops_exporter.settings.retraining import RetrainingConfig
from mlops_exporter.settings.sources import TokenSettings
from mlops_exporter.web import config as web_config
from mlops_exporter.web import negotiation
from mlops_exporter.web.app import Response, Scope, Send, header, text
from mlops_exporter.web.auth import Guard
from mlops_exporter.web.body import BodyReader, BodyRefusedError, ClientGoneError, Receive
from mlops_exporter.web.config import WebConfig
from mlops_exporter.web.server import listen, serve
from mlops_exporter.web.tls import ReloadingContext
from mlops_exporter.web.tokens import Tokens, UnauthorizedError
from mlops_exporter.web.watch import Watched

PATH = "/v1/alerts"
LARGEST_NOTIFICATION = 4 * 1024 * 1024
_AT_ONCE = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line decides."""

    listen: tuple[str, ...] = (":10043",)
    web_config: Path | None = None


def read(path: Path) -> RetrainingConfig:
    """Read and validate the configuration of the receiver; raises ConfigError with all faults."""
    document = Document.read(path, example="the key models")
    faults = document.duplicate_keys()
    try:
        config = RetrainingConfig.model_validate(document.content, context={"directory": path.parent})
    except ValidationError as error:
        raise ConfigError(faults + document.describe(error, RetrainingConfig)) from None
    if faults:
        raise ConfigError(faults)
    return config


class Receiver:
    """The ASGI application. Without `token` whoever gets here may notify."""

    def __init__(self, retrainer: Retrainer, token: Path | None) -> None:
        self._retrainer = retrainer
        self._token = token
        self._bodies = BodyReader(LARGEST_NOTIFICATION, _AT_ONCE * LARGEST_NOTIFICATION, 15.0)
        self._registry = Registry([RetrainingCollector(retrainer)], time.monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            response = await self._answer(scope, receive)
        except ClientGoneError:
            return
        except Exception:
            _log.exception("%s %r failed", scope["method"], scope["path"])
            response = text(500, "internal error: the log says more")
        await response.send(scope, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        path, method = scope["path"], scope["method"]
        if path == PATH:
            return await self._take(scope, receive) if method == "POST" else text(405, "POST", (b"allow", b"POST"))
        if method not in ("GET", "HEAD"):
            return text(405, f"{path} takes GET", (b"allow", b"GET, HEAD"))
        if path == "/metrics":
            openmetrics = negotiation.wants_openmetrics(header(scope, b"accept"))
            body = await self._registry.scrape(openmetrics, gzipped=False)
            return Response(200, body, negotiation.OPENMETRICS if openmetrics else negotiation.TEXT)
        if path in ("/-/healthy", "/-/ready"):
            return text(200, path.removeprefix("/-/"))
        return text(404, f"nothing here: Alertmanager posts to {PATH}, Prometheus scrapes /metrics")

    async def _take(self, scope: Scope, receive: Receive) -> Response:
        try:
            if self._token is not None:
                Tokens([TokenSettings(file=self._token)]).scope(header(scope, b"authorization"))
            taken = self._retrainer.notify(await self._bodies.read(receive, gzipped=False))
        except UnauthorizedError as refusal:
            self._retrainer.counts.notifications["unauthorized"] += 1
            return text(401, str(refusal), (b"www-authenticate", refusal.challenge.encode()))
        except BodyRefusedError as refusal:
            return text(refusal.status, str(refusal))
        except UnreadableError as error:
            return text(400, str(error))
        except OSError as error:  # Alertmanager tries again
            _log.error("a notification could not be written down: %s", error)
            return text(503, "the receiver cannot write its state", (b"retry-after", b"30"))
        except ConfigError as error:  # the token's file: Alertmanager tries again
            _log.error("a notification is refused: %s", error)
            return text(503, "the receiver cannot read its token", (b"retry-after", b"30"))
        return text(200, f"{taken} reasons taken")


def run(config: RetrainingConfig, options: Options) -> None:
    """Run the receiver until SIGTERM or SIGINT. Raises ConfigError, and ListenError for an address it cannot have."""
    asyncio.run(_run(config, options))


async def _run(config: RetrainingConfig, options: Options) -> None:
    web = Watched(options.web_config, web_config.read) if options.web_config is not None else WebConfig
    if config.token_file is None and not web().basic_auth_users:
        raise ConfigError(["token_file: missing; without it give --web.config.file with basic_auth_users"])
    record = Record(config.state.path)
    record.lock()
    retrainer = Retrainer(config, record)
    receiver = Receiver(retrainer, config.token_file)
    guard = Guard(receiver, web, {PATH} if config.token_file is not None else ())
    tls = None if web().tls_server_config is None else ReloadingContext(lambda: web().tls_server_config)
    sockets = listen(options.listen)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    working = asyncio.create_task(retrainer.run())
    working.add_done_callback(lambda _: stop.set())
    _log.info("listening on %s (%s)", ", ".join(options.listen), "http" if tls is None else "https")
    await serve(guard, sockets, stop, tls)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    if not working.cancelled() and (fault := working.exception()) is not None:
        raise fault
    _log.info("stopped")
