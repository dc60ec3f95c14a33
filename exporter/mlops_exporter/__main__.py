"""`python -m mlops_exporter` is `mlops-exporter`."""

import signal
import sys


def main() -> int:
    """Run the command line. SIGHUP waits until the parts are loaded, since `run` answers it, rather than ends by it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from mlops_exporter.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
