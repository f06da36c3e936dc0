"""Writes the noise goldens: what torch's CPU generator (and, in numpy, philox) draws for some seeds and sizes.

    python make_noise.py            noise.safetensors, by the installed torch
    python make_noise.py early      noise_early.safetensors: bf16 by a torch that computes it in bf16 (made with 2.5.1)

A tensor "KIND/SEED/N" holds all N values, or the first 32 and the last 32 of more than 64; the metadata of that name is
the FNV-1a 64 of all N values as little-endian fp32. Kinds are those of engine/rng.h. Seeds are unsigned 64-bit.
"""

import os
import sys

import numpy as np
import torch

import files

HERE = os.path.dirname(os.path.abspath(__file__))
SEEDS = (0, 1, 42, 2**31, 2**32 + 5, 2**40 + 7, 2**63 - 1, 2**64 - 1)
SIZES = (1, 2, 3, 15, 16, 17, 31, 32, 33, 100, 4096, 16 * 64 * 48, 999)


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def torch_cpu(seed, n, dtype):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, generator=g, dtype=dtype).float().numpy()


def philox(seed, n, draw=0):
    """As A1111 and sd.cpp rebuild torch's CUDA generator: element i is the first value of thread i."""
    counter = np.zeros((4, n), np.uint64)
    counter[0] = draw
    counter[2] = np.arange(n)
    low = np.uint64(0xFFFFFFFF)
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        a, b = counter[0] * np.uint64(0xD2511F53), counter[2] * np.uint64(0xCD9E8D57)
        counter = np.stack([(b >> np.uint64(32)) ^ counter[1] ^ np.uint64(key[0]), b & low,
                            (a >> np.uint64(32)) ^ counter[3] ^ np.uint64(key[1]), a & low])
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    x, y = counter[0].astype(np.float64), counter[1].astype(np.float64)
    unit = np.float64(np.float32(2.3283064e-10))
    turn = np.float64(np.float32(2.3283064e-10 * 6.2831855))
    return (np.sqrt(-2.0 * np.log(x * unit + unit / 2)) * np.sin(y * turn + turn / 2)).astype(np.float32)


def write(path, kinds, **metadata):
    tensors = {}
    for kind, draw in kinds.items():
        for seed in SEEDS:
            for n in SIZES:
                name, values = f"{kind}/{seed}/{n}", draw(seed, n)
                tensors[name] = values if n <= 64 else np.concatenate([values[:32], values[-32:]])
                metadata[name] = fnv1a(values.tobytes())
    files.save(tensors, os.path.join(HERE, path), metadata)


if __name__ == "__main__":
    def bf16(seed, n):
        return torch_cpu(seed, n, torch.bfloat16)

    if sys.argv[1:] == ["early"]:
        write("noise_early.safetensors", {"torch-cpu-bf16-early": bf16}, torch=torch.__version__)
    else:
        known = [-0.92466259, -0.42534415, -2.6438457, 0.14518388]
        assert np.abs(philox(0, 4) - known).max() < 1e-6
        write("noise.safetensors", {
            "torch-cpu": lambda seed, n: torch_cpu(seed, n, torch.float32), "torch-cpu-bf16": bf16, "philox": philox,
        }, torch=torch.__version__)
