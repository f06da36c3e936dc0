"""Train the VAE: FLUX's AutoencoderKL, narrower, on crops and whole pictures of the emoji.

    python train_vae.py WORKDIR [--steps N]

Both halves learn for JOINT steps; then the encoder, whose latents the flow model learns, stays as it is and the decoder
goes on alone (--steps counts all). Writes WORKDIR/vae.pt every 100 steps and goes on from it when started again.
"""

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D

import data
from common import Average, cosine, save

CONFIG = dict(
    in_channels=3, out_channels=3, latent_channels=16, sample_size=data.SIZE,
    down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
    block_out_channels=[32, 64, 64, 64], layers_per_block=1, norm_num_groups=8,
    use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=True,
)
JOINT = 2000
CROP = 64
LEARNING_RATE = 2e-3
KL_WEIGHT = 1e-3


def initialise(vae):
    """Every residual block starts as the identity: this learns several times faster than the library's default."""
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            torch.nn.init.zeros_(module.bias)
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            torch.nn.init.zeros_(module.conv2.weight)


def picture(glyphs, rng):
    """A training picture with more freedom than the flow model's: any place, sometimes mirrored, in other colours."""
    canvas = data.paint(glyphs[rng.integers(len(glyphs))], rng.choice(list(data.SIZES)), rng.choice(list(data.COLOURS)))
    canvas = np.roll(canvas, rng.integers(-7, 8, 2), (0, 1))
    if rng.random() < 0.3:
        canvas = canvas[:, ::-1]
    if rng.random() < 0.15:
        canvas = canvas[:, :, rng.permutation(3)]
    return canvas


def batch(glyphs, rng, crops):
    """16 crops of 64x64, or 4 whole pictures: the same number of pixels, in -1..1."""
    pictures = []
    for _ in range(16 if crops else 4):
        p = picture(glyphs, rng)
        if crops:
            y, x = rng.integers(0, data.SIZE - CROP + 1, 2)
            p = p[y:y + CROP, x:x + CROP]
        pictures.append(p)
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def loss_of(vae, x):
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
    y = y.float()
    pixels = F.l1_loss(y, x) + F.mse_loss(y, x)
    edges = sum(F.l1_loss(y.diff(dim=d), x.diff(dim=d)) for d in (2, 3))
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    return pixels + edges + KL_WEIGHT * kl, pixels, kl


def rate(step, steps):
    """Down a cosine while both halves learn, cut off at 2/3 of its length; then down another for the decoder."""
    if step < JOINT:
        return LEARNING_RATE * cosine(step, 1.5 * JOINT)
    return 0.5 * LEARNING_RATE * cosine(step - JOINT, steps - JOINT)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir")
    parser.add_argument("--steps", type=int, default=JOINT + 1500)
    args = parser.parse_args()
    torch.manual_seed(0)
    vae = AutoencoderKL(**CONFIG)
    initialise(vae)
    average = Average(vae, 0.998)
    path = os.path.join(args.workdir, "vae.pt")
    start, spent, state = 0, 0.0, None
    if os.path.exists(path):
        state = torch.load(path)
        vae.load_state_dict(state["model"])
        average.values, start, spent = state["average"], state["step"], state["seconds"]
    rng = np.random.default_rng(start)
    glyphs = [data.glyph(kind) for kind in data.KINDS]
    print(f"{sum(p.numel() for p in vae.parameters())} parameters, from step {start}", flush=True)
    began = time.time()
    optimizer = None
    for step in range(start, args.steps):
        if optimizer is None or step == JOINT:
            if step == JOINT:
                average.copy_to(vae)
            vae.encoder.requires_grad_(step < JOINT)
            optimizer = torch.optim.AdamW([p for p in vae.parameters() if p.requires_grad],
                                          betas=(0.9, 0.99), weight_decay=1e-3)
            if state and step != JOINT:
                optimizer.load_state_dict(state["optimizer"])
        for group in optimizer.param_groups:
            group["lr"] = rate(step, args.steps)
        loss, pixels, kl = loss_of(vae, batch(glyphs, rng, crops=step % 4 != 3))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update(step)
        if step % 50 == 0:
            print(f"step {step} loss {loss:.4f} pixels {pixels:.4f} kl {kl:.3f} {spent + time.time() - began:.0f} s",
                  flush=True)
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            save(path, model=vae.state_dict(), optimizer=optimizer.state_dict(), average=average.values,
                 step=step + 1, seconds=spent + time.time() - began)


if __name__ == "__main__":
    main()
