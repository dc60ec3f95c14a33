"""`python -m mlops_exporter` is `mlops-exporter`."""

import os
import signal
import sys

INTERRUPTED = 130
"""Exit status of what SIGINT ended, as shells have it."""


def main() -> int:
    """Run the command line.

    SIGHUP waits until the parts are loaded, since `run` answers it, rather than ends by it. SIGINT ends what starts,
    even where it was ignored on entry, as a shell ignores it for what it starts in the background. The system ends it,
    not Python: Python drops an interrupt that comes in a callback of an import.

    BLAS gets one thread: its small products would only wake others that then wait for work, burning a core.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        from mlops_exporter.cli import main as run

        return run()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
