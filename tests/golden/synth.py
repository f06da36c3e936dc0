"""The random-weight law of engine/synth.h, in numpy: element i of a tensor is a pure function of (seed, name, i).

So a golden needs only each component's header (names, dtypes, shapes) and not its weights. Holds the law and
nothing else; make_golden.py builds models with it, and run as a program it prints what a C test can compare.
"""

import math
import sys

import numpy as np

GOLDEN_RATIO = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
EMBEDDINGS = (
    "token_embedding.weight",
    "position_embedding.weight",
    "shared.weight",
    "embed_tokens.weight",
    "relative_attention_bias.weight",
)


def law(name, shape):
    """(center, half_width). The order of the rules matters: `norm1.linear.weight` is a matrix."""
    if name.endswith(".bias"):
        return 0.0, 0.02 * math.sqrt(3.0)
    if name.endswith(EMBEDDINGS):
        return 0.0, 0.5
    if len(shape) == 1:
        return 1.0, 0.1 * math.sqrt(3.0)
    return 0.0, math.sqrt(3.0 / math.prod(shape[1:]))


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def values(name, seed, shape):
    """The tensor in double, before it is rounded to its dtype."""
    center, half_width = law(name, shape)
    key = fnv1a(name.encode()) ^ (seed * GOLDEN_RATIO & MASK)
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(GOLDEN_RATIO)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float64) * 2.0**-24
    return (center + (2.0 * u - 1.0) * half_width).reshape(shape)


def rounded(x, dtype):
    """Doubles rounded once to the values of dtype ("F32", "BF16", "F16"), returned as float32.

    By way of float32 a bf16 would be rounded twice, and some ties would fall the other way. No bf16 subnormals here.
    """
    if dtype == "F32":
        return x.astype(np.float32)
    if dtype == "F16":
        return x.astype(np.float16).astype(np.float32)
    if dtype == "BF16":
        mantissa, exponent = np.frexp(x)
        return np.ldexp(np.rint(mantissa * 256.0), exponent - 8).astype(np.float32)
    raise ValueError(dtype)


def tensor(name, seed, shape, dtype):
    return rounded(values(name, seed, shape), dtype)


def stored(x, dtype):
    """The bytes of a tensor() in a file."""
    if dtype == "BF16":
        return (x.view(np.uint32) >> 16).astype("<u2").tobytes()
    return x.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


if __name__ == "__main__":
    name, seed, dtype, *shape = sys.argv[1:]
    print(*(float(v).hex() for v in tensor(name, int(seed), [int(n) for n in shape], dtype).ravel()), sep="\n")
