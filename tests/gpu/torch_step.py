#!/usr/bin/env python3
"""One step of FLUX.1-dev's transformer in PyTorch, bf16, with scaled_dot_product_attention: what sluice's
step is compared with. Random weights, the modulation computed in every step as diffusers does. Needs torch alone.

Prints lines "name<TAB>seconds<TAB>s<TAB>text"; other lines say why there are none."""
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    print("torch is not installed")
    sys.exit(0)

small = "--small" in sys.argv
if not torch.cuda.is_available():
    print("torch %s finds no card" % torch.__version__)
    sys.exit(0)

DIM, HEADS, TEXT, DOUBLES, SINGLES = (256, 4, 64, 1, 1) if small else (3072, 24, 512, 19, 38)
HEAD = DIM // HEADS


def rope(x, cos, sin):
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


def modulated(x, scale, shift):
    return F.layer_norm(x, (DIM,), eps=1e-6) * (1 + scale) + shift


class Heads(nn.Module):
    """q, k, v of one stream, normalised."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM)
        self.q_norm, self.k_norm = nn.RMSNorm(HEAD, eps=1e-6), nn.RMSNorm(HEAD, eps=1e-6)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, HEAD)).unbind(-3)
        return self.q_norm(q), self.k_norm(k), v


def attend(q, k, v, cos, sin):
    q, k, v = (t.transpose(1, 2) for t in (rope(q, cos, sin), rope(k, cos, sin), v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)


class Stream(nn.Module):
    def __init__(self):
        super().__init__()
        self.modulation, self.heads, self.out = nn.Linear(DIM, 6 * DIM), Heads(), nn.Linear(DIM, DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, 4 * DIM), nn.GELU(approximate="tanh"), nn.Linear(4 * DIM, DIM))


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.text, self.image = Stream(), Stream()

    def forward(self, text, image, vec, cos, sin):
        parts, streams = [], ((self.text, text), (self.image, image))
        for s, x in streams:
            m = s.modulation(F.silu(vec)).unsqueeze(1).chunk(6, -1)
            parts.append((m, s.heads(modulated(x, m[1], m[0]))))
        q, k, v = (torch.cat((parts[0][1][i], parts[1][1][i]), 1) for i in range(3))
        o = attend(q, k, v, cos, sin)
        out = []
        for (s, x), (m, _), o in zip(streams, parts, o.split((text.shape[1], image.shape[1]), 1)):
            x = x + m[2] * s.out(o)
            out.append(x + m[5] * s.mlp(modulated(x, m[4], m[3])))
        return out


class Single(nn.Module):
    def __init__(self):
        super().__init__()
        self.modulation, self.heads = nn.Linear(DIM, 3 * DIM), Heads()
        self.up, self.out = nn.Linear(DIM, 4 * DIM), nn.Linear(5 * DIM, DIM)

    def forward(self, x, vec, cos, sin):
        shift, scale, gate = self.modulation(F.silu(vec)).unsqueeze(1).chunk(3, -1)
        y = modulated(x, scale, shift)
        q, k, v = self.heads(y)
        o = torch.cat((attend(q, k, v, cos, sin), F.gelu(self.up(y), approximate="tanh")), -1)
        return x + gate * self.out(o)


class Step(nn.Module):
    def __init__(self):
        super().__init__()
        self.image_in, self.text_in, self.out = nn.Linear(64, DIM), nn.Linear(4096, DIM), nn.Linear(DIM, 64)
        self.last = nn.Linear(DIM, 2 * DIM)
        self.doubles = nn.ModuleList(Double() for _ in range(DOUBLES))
        self.singles = nn.ModuleList(Single() for _ in range(SINGLES))

    def forward(self, latent, context, vec, cos, sin):
        image, text = self.image_in(latent), self.text_in(context)
        for block in self.doubles:
            text, image = block(text, image, vec, cos, sin)
        x = torch.cat((text, image), 1)
        for block in self.singles:
            x = block(x, vec, cos, sin)
        shift, scale = self.last(F.silu(vec)).unsqueeze(1).chunk(2, -1)
        return self.out(modulated(x[:, text.shape[1]:], scale, shift))


@torch.inference_mode()
def measure(step, size, name):
    tokens = (size // 16) ** 2
    cuda = dict(device="cuda", dtype=torch.bfloat16)
    angle = torch.rand(TEXT + tokens, 1, HEAD // 2, device="cuda") * 6.28
    inputs = (torch.randn(1, tokens, 64, **cuda), torch.randn(1, TEXT, 4096, **cuda), torch.randn(1, DIM, **cuda),
              angle.cos(), angle.sin())
    best = float("inf")
    for i in range(6):
        torch.cuda.synchronize()
        began = time.perf_counter()
        step(*inputs)
        torch.cuda.synchronize()
        if i >= 2:
            best = min(best, time.perf_counter() - began)
    print("PyTorch, %s, %d px: step\t%.6f\ts\ttorch %s, peak %.2f GB" % (
        name, size, best, torch.__version__, torch.cuda.max_memory_allocated() * 1e-9), flush=True)


def main():
    torch.manual_seed(0)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        step = Step().eval().requires_grad_(False)
    sizes = (64,) if small else (1024, 768, 512)
    for size in sizes:
        measure(step, size, "eager")
    compiled = torch.compile(step)
    for size in sizes:
        try:
            torch.compiler.reset()
            measure(compiled, size, "compiled")
        except Exception as fault:  # whatever the compiler lacks here
            print("PyTorch, compiled, %d px: %s" % (size, str(fault).splitlines()[0]), flush=True)
            break


main()
