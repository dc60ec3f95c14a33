"""`python -m exporter` is `mlops-exporter`."""

import sys

from exporter.cli import main

sys.exit(main())
