"""Trees of dicts, lists, numbers, strings and arrays as pieces of bytes, and back."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

PIECE_BYTES = 8 * 1024 * 1024


def pack(tree: Any) -> Iterator[memoryview | bytes]:
    """Yield a tree of dicts, lists, numbers, strings and arrays as pieces of at most PIECE_BYTES."""
    arrays: list[NDArray[Any]] = []

    def keep(value: Any) -> Any:
        array = np.ascontiguousarray(value)
        arrays.append(array)
        return msgspec.msgpack.Ext(1, msgspec.msgpack.encode((array.dtype.str, array.shape, array.nbytes)))

    header = msgspec.msgpack.Encoder(enc_hook=keep).encode(tree)
    yield len(header).to_bytes(8, "little") + header
    for array in arrays:
        data = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(data), PIECE_BYTES):
            yield data[start : start + PIECE_BYTES]


def unpack(pieces: Iterable[memoryview | bytes]) -> Any:
    """Return the tree that `pack` wrote, None for no pieces at all. Its arrays can be written to.

    Each array is filled as its pieces come: what is held beside the tree is one piece. Raises ValueError, or what
    msgspec raises, for what `pack` has not written.
    """
    stream = iter(pieces)
    first = next(stream, None)
    if first is None:
        return None
    length = int.from_bytes(first[:8], "little")
    header, rest = memoryview(first)[8 : 8 + length], memoryview(first)[8 + length :]

    def array(_code: int, description: memoryview) -> Any:
        nonlocal rest
        dtype, shape, size = msgspec.msgpack.decode(description)
        values = np.empty(shape, np.dtype(dtype))
        if values.nbytes != size:
            raise ValueError(f"an array of {size} bytes cannot have the shape {shape}")
        target = values.reshape(-1).view(np.uint8).data
        filled = 0
        while filled < size:
            if not rest:
                rest = memoryview(next(stream, b""))
                if not rest:
                    raise ValueError("an array ends too early")
            part = rest[: size - filled]
            target[filled : filled + len(part)] = part
            filled += len(part)
            rest = rest[len(part) :]
        return values

    return msgspec.msgpack.Decoder(ext_hook=array).decode(header)
