"""Writes samplers.safetensors: sigmas of every schedule, runs of every sampler, and successive draws of noise.

    python make_samplers.py        needs torch, scipy, diffusers, and k-diffusion unpacked (its own needs are not used)

Tensors, fp32 but computed in double:
  sigmas/SCHEDULE/SHIFT/TOKENS/STEPS  [STEPS + 1]; SHIFT is a key of SHIFTS below
  x/SAMPLER/RNG/SCHEDULE/STEPS        [STEPS + 1, N]: the start, and x after each step, for the model `velocity`
  x0/SAMPLER/RNG/SCHEDULE/STEPS       [evaluations, N]: x0 of each evaluation
  draw/RNG/SEED/N/DRAW                [N]: draw DRAW (0, 1, ...) of N values from one generator

Whose they are: `simple` is diffusers' FlowMatchEulerDiscreteScheduler (which computes it in fp32; checked against the
formula in double, which is written). The other schedules are ComfyUI's, which is not at hand to run: its published
formulas (comfy/samplers.py and comfy/model_sampling.py of 2026), written here anew; in fp32, as there, they are within
FP32_DIFFERS of what is written. Sigmas for which ComfyUI's beta makes fewer steps are not written: there sluice departs
from it. euler, heun and dpmpp_2m are k-diffusion's own functions, the same as ComfyUI's; lcm is ComfyUI's formula. The
noise is torch's own, or philox as make_noise.py has it.
"""

import importlib.util
import math
import os
import sys
from unittest.mock import MagicMock

import numpy as np
import scipy.stats
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

import files
import make_noise

HERE = os.path.dirname(os.path.abspath(__file__))
FP32_DIFFERS = 3e-6  # relative
# base_shift, max_shift over 256..4096 tokens, or a constant shift
SHIFTS = {"dev": (0.5, 1.15), "comfy": (1.15, 1.15), "schnell": 1.0, "constant3": 3.0}
STEPS, TOKENS = (1, 2, 3, 4, 7, 20, 28, 50, 200), (256, 4096, 16384)
N, SEED = 40, 7  # no multiple of 16: torch's last block is drawn twice


# --- schedules -----------------------------------------------------------------------------------------------------
def factor(shift, tokens):
    if isinstance(shift, float):
        return shift
    low, high = shift
    return math.exp(low + (high - low) / (4096 - 256) * (tokens - 256))


class Sampling:
    """ComfyUI's ModelSamplingFlux, or for a constant shift its ModelSamplingDiscreteFlow with multiplier 1."""

    def __init__(self, shift, tokens, dtype):
        self.s, self.dtype = factor(shift, tokens), dtype
        size = 1000 if isinstance(shift, float) else 10000
        self.sigmas = self.sigma(torch.arange(1, size + 1, dtype=dtype) / size)

    def sigma(self, t):
        return self.s / (self.s + (1 / t - 1))


def simple(m, steps):
    return m.sigma(torch.linspace(1, 1 / steps, steps, dtype=m.dtype))


def normal(m, steps):
    return m.sigma(torch.linspace(1, m.sigmas[0].item(), steps, dtype=m.dtype))


def sgm_uniform(m, steps):
    return m.sigma(torch.linspace(1, m.sigmas[0].item(), steps + 1, dtype=m.dtype)[:-1])


def beta(m, steps):
    quantiles = scipy.stats.beta.ppf(1 - np.linspace(0, 1, steps, endpoint=False), 0.6, 0.6)
    entries = np.rint(quantiles * (len(m.sigmas) - 1)).astype(int)
    return m.sigmas[list(dict.fromkeys(entries))]


def karras(m, steps):
    low = m.sigmas[0].item() ** (1 / 7)
    return (1 + torch.linspace(0, 1, steps, dtype=m.dtype) * (low - 1)) ** 7


def exponential(m, steps):
    return torch.linspace(0, math.log(m.sigmas[0].item()), steps, dtype=m.dtype).exp()


SCHEDULES = {f.__name__: f for f in (simple, normal, beta, sgm_uniform, karras, exponential)}


def schedule(name, shift, tokens, steps):
    """[steps + 1] in double, checked; None where ComfyUI makes fewer steps."""
    wide, narrow = (SCHEDULES[name](Sampling(SHIFTS[shift], tokens, d), steps).double()
                    for d in (torch.float64, torch.float32))
    if len(wide) < steps:
        return None
    assert ((wide - narrow).abs() <= FP32_DIFFERS * wide).all(), (name, shift, tokens, steps)
    if name == "simple":
        dynamic = not isinstance(SHIFTS[shift], float)
        s = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=dynamic, shift=1.0 if dynamic else SHIFTS[shift])
        mu = math.log(factor(SHIFTS[shift], tokens)) if dynamic else None
        s.set_timesteps(steps, sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
        assert (s.sigmas[:-1].double() - wide).abs().max() < 1e-6
    return torch.cat([wide, wide.new_zeros(1)])


# --- samplers ------------------------------------------------------------------------------------------------------
def k_diffusion():
    """Its sampling.py by itself: the rest of the package wants much that the samplers do not use."""
    for name in ("torchdiffeq", "torchsde", "k_diffusion", "k_diffusion.utils"):
        sys.modules[name] = MagicMock()
    path = next(p for p in (os.path.join(d, "k_diffusion", "sampling.py") for d in sys.path) if os.path.exists(p))
    spec = importlib.util.spec_from_file_location("k_diffusion.sampling", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
    return module


def velocity(x, sigma):
    """Nonlinear in both, each value bound to its neighbour; the same in tests/test_sampler.c."""
    i = torch.arange(x.shape[-1], dtype=x.dtype)
    return 0.7 * x + 0.4 * (0.5 - sigma) * x.roll(-1, -1) + 0.6 * torch.cos(x + 0.1 * i)


def draws(kind, seed, n, count):
    if kind == "philox":
        out = [make_noise.philox(seed, n, draw) for draw in range(count)]
        return [torch.from_numpy(v) for v in out]
    dtype = torch.bfloat16 if kind == "torch-cpu-bf16" else torch.float32
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, generator=g, dtype=dtype).float() for _ in range(count)]


def run(sampler, rng, sigmas):
    """x after each step and x0 of each evaluation. The start is unit noise of some other seed."""
    start = draws("torch-cpu", 1234, N, 1)[0].double()[None]
    xs, x0s = [], []

    def model(x, sigma):
        x0s.append(x - sigma[:, None] * velocity(x, sigma[:, None]))
        return x0s[-1]

    if sampler == "lcm":
        steps = len(sigmas) - 1
        noise = draws(rng, SEED, N, steps)[1:] if rng == "philox" else draws(rng, SEED + 1, N, steps)
        x = start
        for i in range(steps):
            xs.append(x)
            x = model(x, sigmas[i : i + 1])
            if sigmas[i + 1] > 0:
                x = sigmas[i + 1] * noise[i].double() + (1 - sigmas[i + 1]) * x
    else:
        x = getattr(KD, f"sample_{sampler}")(model, start, sigmas, callback=lambda d: xs.append(d["x"]), disable=True)
    return torch.cat(xs + [x]), torch.cat(x0s)


if __name__ == "__main__":
    KD = k_diffusion()
    tensors = {}

    def add(name, value):
        tensors[name] = value.float().numpy()

    for name in SCHEDULES:
        for shift in SHIFTS:
            for tokens in TOKENS if shift == "dev" else (4096,):
                for steps in STEPS:
                    sigmas = schedule(name, shift, tokens, steps)
                    if sigmas is not None:
                        add(f"sigmas/{name}/{shift}/{tokens}/{steps}", sigmas)
    for sampler in ("euler", "heun", "dpmpp_2m", "lcm"):
        for rng in ("torch-cpu", "torch-cpu-bf16", "philox") if sampler == "lcm" else ("torch-cpu",):
            for name, steps in (("simple", 1), ("simple", 2), ("simple", 7), ("beta", 7), ("karras", 7)):
                # From the stored sigmas, which the test reads back too.
                x, x0 = run(sampler, rng, schedule(name, "dev", 4096, steps).float().double())
                add(f"x/{sampler}/{rng}/{name}/{steps}", x)
                add(f"x0/{sampler}/{rng}/{name}/{steps}", x0)
    for rng in ("torch-cpu", "torch-cpu-bf16", "philox"):
        for seed in (0, 2**40 + 7):
            for n in (1, 7, 16, 40, 64):
                for i, value in enumerate(draws(rng, seed, n, 4)):
                    add(f"draw/{rng}/{seed}/{n}/{i}", value)
    files.save(tensors, os.path.join(HERE, "samplers.safetensors"), {"torch": torch.__version__, "seed": str(SEED)})
