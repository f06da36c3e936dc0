"""What both trainings share: the learning-rate schedule, the moving average of the weights, checkpoints."""

import math
import os

import torch


def cosine(step, steps, warmup=200):
    """The factor on the learning rate: a linear warm-up, then half a cosine down to 1 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Average:
    """An exponential moving average of a module's parameters."""

    def __init__(self, module, decay):
        self.decay = decay
        self.module = module
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, step):
        decay = min(self.decay, (1 + step) / (10 + step))
        names, parameters = zip(*self.module.named_parameters())
        torch._foreach_lerp_([self.values[n] for n in names], list(parameters), 1 - decay)

    @torch.no_grad()
    def copy_to(self, module):
        for name, p in module.named_parameters():
            p.copy_(self.values[name])


def save(path, **state):
    """Written beside and renamed, so that a stop in the middle leaves the previous checkpoint."""
    torch.save(state, path + ".new")
    os.replace(path + ".new", path)
