"""Benchmarks: what things cost, mostly as ratios within one run."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the product has it, before anything loads NumPy
