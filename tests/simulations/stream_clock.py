"""`mlops-exporter` by the clock of a stream: a file says what time it is, as a number of Unix seconds in eight bytes.

python -m tests.simulations.stream_clock FILE ARGUMENTS…
"""

import mmap
import struct
import sys
from pathlib import Path

from mlops_exporter.__main__ import main
from mlops_exporter.events import clock

_FORM = struct.Struct("d")


def tell(file: Path, now: float) -> None:
    """Say what time it is."""
    with file.open("r+b" if file.exists() else "w+b") as opened:
        opened.write(_FORM.pack(now))


if __name__ == "__main__":
    with Path(sys.argv.pop(1)).open("rb") as opened:
        time = mmap.mmap(opened.fileno(), _FORM.size, access=mmap.ACCESS_READ)
    clock.now = lambda: float(_FORM.unpack_from(time)[0])
    sys.exit(main())
