"""Fuzz the decoder for as many tries as wanted, and print the shortest body found for every kind of defect."""

import argparse
import re
import sys
import time
from random import Random

from mlops_exporter.events import texts
from tests.fuzz.bodies import body
from tests.fuzz.oracle import Oracle

CHUNKS = (64, 300, texts.CHUNK_BYTES)


def fuzz(tries: int, seed: int, defects: dict[str, bytes]) -> tuple[int, int]:
    """Try random bodies, collecting the shortest body of each kind of defect; returns events accepted and refused."""
    random, oracle = Random(seed), Oracle()
    accepted = refused = 0
    standard = texts.CHUNK_BYTES
    try:
        for number in range(tries):
            if number % 1000 == 0:
                texts.CHUNK_BYTES = random.choice(CHUNKS)
            data = body(random)
            try:
                counts = oracle.check(data)
            except Exception as error:
                kind = re.sub(r"[\d\[\], ]+", " ", f"{type(error).__name__}: {str(error).partition(':')[0]}")
                defects[kind] = min(defects.get(kind, data), data, key=len)
                continue
            accepted += counts[0]
            refused += counts[1]
    finally:
        texts.CHUNK_BYTES = standard
    return accepted, refused


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=2_000_000, help="bodies to try (default 2000000)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    defects: dict[str, bytes] = {}
    begin = time.perf_counter()
    accepted, refused = fuzz(options.tries, options.seed, defects)
    seconds = time.perf_counter() - begin
    print(f"{options.tries} bodies in {seconds:.0f} s: {accepted} events accepted, {refused} refused, ", end="")
    print(f"{len(defects)} kinds of defects")
    for kind, data in defects.items():
        print(f"{kind}\n  {data!r}")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
