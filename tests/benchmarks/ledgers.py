"""What partial ledgers and the shares of replicas cost: their size, and the CPU time of adding them up."""

import asyncio
import gzip
import time

import msgspec

from mlops_exporter.counting.fleet import share_of
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.partial import PartialLedger, encode
from mlops_exporter.counting.producer import Producer
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.ingest.body import Body
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.ledgers import LEDGERS
from mlops_exporter.settings.models import Limits
from tests.benchmarks.refresh import filled
from tests.support import workload

LEDGERS_OF_A_BODY = 200


def made(model: Model, now: float) -> list[PartialLedger]:
    """Return ledgers of one pane, as many as a body may hold: their epochs differ."""
    producer = Producer(model.settings, model.profiles, Limits())
    columns = Decoder(producer.schemas).decode(workload.bodies(1000, 1000, now)[0], now).columns["credit"]
    producer.admit(columns.version_names, now)
    producer.count(columns, now)
    first, *_ = producer.ledgers("p", "0")
    return [msgspec.structs.replace(first, epoch=str(number)) for number in range(LEDGERS_OF_A_BODY)]


def measure() -> tuple[int, float]:
    """Return the bytes of a ledger of 25 features, and the CPU seconds of adding one in a full body."""
    now = time.time()
    model = workload.model()
    ledgers = made(model, now)
    intake = Intake([model], ["bench"], Limits())
    body = Body("bench", encode(ledgers), now, format=LEDGERS)
    began = time.process_time()
    result = asyncio.run(intake.take_ledgers(body))
    assert result.accepted == len(ledgers), result.refused[:1]
    return len(body.data) // len(ledgers), (time.process_time() - began) / len(ledgers)


def main() -> None:
    """Print what a ledger and a share take."""
    size, seconds = measure()
    print(f"a partial ledger of 25 features: {size:,} bytes, added in {seconds * 1e3:.2f} ms of CPU")
    model = filled(10_000)
    began = time.process_time()
    share = msgspec.msgpack.encode(share_of(model))
    seconds = time.process_time() - began
    packed = len(gzip.compress(share, 1))
    print(
        f"a share of one version of 25 features, three windows: {len(share) / 1e6:.2f} MB, {packed / 1e6:.2f} MB "
        f"compressed, made in {seconds * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    main()
