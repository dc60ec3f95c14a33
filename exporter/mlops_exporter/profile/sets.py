"""A set of classes as one number, so that it is kept and joined as a class is: class i is worth 2^i.

The number of no class is 0; NaN is no set at all, as of a prediction that was not made.
"""

import numpy as np

from mlops_exporter.arrays import Flags, Floats, Ints

MAX_CLASSES = 52
"""A double holds the sums of so many powers of two exactly."""


def as_numbers(members: Flags) -> Floats:
    """Return the number of each set, (n,), from which classes it has, (n, classes)."""
    return np.asarray(members @ np.exp2(np.arange(members.shape[1])), np.float64)


def members_of(numbers: Floats, classes: int) -> Flags:
    """Return which classes each set has, (n, classes); of NaN none."""
    known = np.nan_to_num(numbers).astype(np.int64)
    found: Flags = (known[:, np.newaxis] >> np.arange(classes) & 1).astype(np.bool_)
    return found


def from_codes(rows: Ints, codes: Ints, count: int, classes: int) -> tuple[Floats, Flags]:
    """Return the number of each of `count` sets, and which ones have a member that is no class.

    Each member belongs to the set `rows[i]`, and has the code `codes[i]`.
    """
    is_class = (codes >= 0) & (codes < classes)
    members = np.zeros((count, classes), np.bool_)
    members[rows[is_class], codes[is_class]] = True
    wrong = np.zeros(count, np.bool_)
    wrong[rows[~is_class]] = True
    return as_numbers(members), wrong


def among(numbers: Floats, codes: Floats) -> Floats:
    """Return sets of several classes as sets of others: `codes`, (several,), has the code there of each, NaN for none.

    A set with a class that is none there is NaN.
    """
    members = members_of(numbers, len(codes))
    known = np.isfinite(codes)
    others = np.zeros((len(numbers), int(codes[known].max(initial=-1)) + 1), np.bool_)
    others[:, codes[known].astype(np.intp)] = members[:, known]
    return np.where(np.isnan(numbers) | members[:, ~known].any(axis=1), np.nan, as_numbers(others))
