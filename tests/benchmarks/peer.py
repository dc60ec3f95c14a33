"""One program's summary of the features of a Parquet file, timed: `python peer.py PROGRAM FILE`, as JSON.

It is run by the interpreter of the program's own environment, and imports nothing of here.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

OUTCOMES = ("score", "label")
SHARES = [share / 10 for share in range(1, 10)]


def _split(frame: Any) -> tuple[list[str], list[str]]:
    """Return the numeric and the categorical features of a frame."""
    features = [name for name in frame.columns if name not in OUTCOMES]
    numeric = [name for name in features if frame[name].dtype.kind == "f"]
    return numeric, [name for name in features if name not in numeric]


def pandas(path: str) -> Callable[[], object]:
    """Exact quantiles and counts."""
    import pandas as pd

    def work() -> None:
        frame = pd.read_parquet(path)
        numeric, categorical = _split(frame)
        frame[numeric].quantile(SHARES)
        for name in categorical:
            frame[name].value_counts()

    return work


def duckdb(path: str) -> Callable[[], object]:
    """Exact quantiles and counts, in one thread."""
    import duckdb as engine

    def work() -> None:
        connection = engine.connect()
        connection.execute("SET threads = 1")
        table = f"read_parquet('{path}')"
        kinds = connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()
        features = [(name, kind) for name, kind, *_ in kinds if name not in OUTCOMES]
        quantiles = ", ".join(f'quantile_disc("{name}", {SHARES})' for name, kind in features if kind == "DOUBLE")
        connection.execute(f"SELECT {quantiles} FROM {table}").fetchall()
        for name, kind in features:
            if kind != "DOUBLE":
                connection.execute(f'SELECT "{name}", count(*) FROM {table} GROUP BY ALL').fetchall()

    return work


def _dataset(frame: Any) -> Any:
    from evidently import DataDefinition, Dataset

    numeric, categorical = _split(frame)
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
    return Dataset.from_pandas(frame[[*numeric, *categorical]], data_definition=definition)


def evidently_summary(path: str) -> Callable[[], object]:
    """Evidently's summary of data: what it makes of a reference."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataSummaryPreset

    return lambda: Report([DataSummaryPreset()]).run(_dataset(pd.read_parquet(path)), None).dict()


def evidently_drift(path: str) -> Callable[[], object]:
    """Evidently's drift of every feature: what it makes of a batch beside a reference, here the same rows."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    reference = _dataset(pd.read_parquet(path))
    return lambda: Report([DataDriftPreset()]).run(_dataset(pd.read_parquet(path)), reference).dict()


def whylogs(path: str) -> Callable[[], object]:
    """The profile that whylogs makes: sketches of every column."""
    import pandas as pd
    import whylogs as why

    return lambda: why.log(pd.read_parquet(path)).profile().view()


def main() -> None:
    """Print seconds of CPU and of the clock, imports left out, and the most memory in bytes."""
    program, path = sys.argv[1:]
    work = globals()[program](path)
    start, cpu = time.perf_counter(), time.process_time()
    work()
    found = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - start}
    print(json.dumps({**found, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
