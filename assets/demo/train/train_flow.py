"""Train the text encoders and the flow transformer together, from nothing, on the VAE's latents.

    python train_flow.py WORKDIR MODEL [--steps N]

takes the VAE from WORKDIR/vae.pt and the tokenizers from MODEL, caches the latents of all training pictures in
WORKDIR/latents.pt, writes WORKDIR/flow.pt every 250 steps and goes on from it when started again. The learning rate
stays level and falls to zero over the last 30 % of the steps, so a run may be lengthened before it falls.
"""

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from transformers import AutoTokenizer

import data
import model
import train_vae
from common import Average, save

BATCH = 32
LEARNING_RATE = 1e-3
TIME_MEAN, TIME_SPREAD = 0.8, 1.25  # of the logit of the times; the sampler's shift for 64 tokens is 0.47
NO_CAPTION = 0.08
# Small emoji fill a quarter of the picture and learn more slowly: over the last 30 % of the steps most pictures are small,
# and they count more.
SMALL, SMALL_LATE, SMALL_WEIGHT_LATE = 0.5, 0.85, 2
LATE = 0.7


@torch.no_grad()
def make_latents(vae, glyphs):
    """fp16 latents [kind, colour, size, place, 16, 16, 16], their mean and deviation, and the pictures' colours
    [kind, colour, size, place, 16, 16, 3] at the size of the latents, in -1..1."""
    all_of = (len(glyphs), len(data.COLOURS), len(data.SIZES), len(data.PLACES))
    latents = torch.empty(*all_of, 16, model.LATENT, model.LATENT, dtype=torch.float16)
    colours = torch.empty(*all_of, model.LATENT, model.LATENT, 3)
    for k, glyph in enumerate(glyphs):
        for c, colour in enumerate(data.COLOURS):
            pictures = np.stack([data.paint(glyph, size, colour, place) for size in data.SIZES for place in data.PLACES])
            x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
            with torch.autocast("cpu", torch.bfloat16):
                mean = vae.encode(x).latent_dist.mean
            latents[k, c] = mean.view(latents.shape[2:])
            colours[k, c] = F.avg_pool2d(x, 8).permute(0, 2, 3, 1).view(colours.shape[2:])
    shift, scale = latents.float().mean().item(), 1 / latents.float().std().item()
    return {"latents": latents, "colours": colours, "shift": shift, "scale": scale}


def load_latents(workdir):
    path = os.path.join(workdir, "latents.pt")
    if not os.path.exists(path):
        vae = AutoencoderKL(**train_vae.CONFIG)
        vae.load_state_dict(torch.load(os.path.join(workdir, "vae.pt"))["average"])
        torch.save(make_latents(vae, [data.glyph(kind) for kind in data.KINDS]), path)
    return torch.load(path)


def batch(cache, rng, late):
    """Clean latents in model space, their captions and their weights in the loss."""
    latents = cache["latents"]
    index = [rng.integers(0, n, BATCH) for n in latents.shape[:4]]
    index[2] = (rng.random(BATCH) < (SMALL_LATE if late else SMALL)).astype(int)
    captions = ["" if rng.random() < NO_CAPTION else
                data.loose_caption(data.NAMES[k], list(data.SIZES)[s], list(data.COLOURS)[c], rng)
                for k, c, s in zip(*index[:3])]
    x = latents[tuple(torch.from_numpy(i) for i in index)].float()
    weights = torch.from_numpy(1 + (SMALL_WEIGHT_LATE - 1) * late * index[2]).float()
    return model.pack((x - cache["shift"]) * cache["scale"]), captions, weights


def loss_of(nets, tokenizers, cache, rng, late):
    clean, captions, weights = batch(cache, rng, late)
    noise = torch.randn_like(clean)
    # Times are logit-normal, evenly spread over each batch.
    t = torch.sigmoid(TIME_MEAN + TIME_SPREAD * torch.special.ndtri((torch.randperm(BATCH) + torch.rand(BATCH)) / BATCH))
    guidance = 1 + 4 * torch.rand(BATCH)
    noisy = torch.lerp(clean, noise, t[:, None, None])
    with torch.autocast("cpu", torch.bfloat16):
        v = model.velocity(nets, noisy, t, guidance, *model.encode(nets, tokenizers, captions))
    return (weights[:, None, None] * (v.float() - (noise - clean)).square()).mean() / weights.mean()


def make_optimizers(nets):
    """Muon for the matrices of the transformer's blocks, AdamW for everything else."""
    matrices = [p for name, p in nets["flux"].named_parameters() if p.ndim == 2 and "blocks." in name]
    chosen = {id(p) for p in matrices}
    rest = [p for p in nets.parameters() if id(p) not in chosen]
    return [torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.01, fused=True)]


def rate(step, steps, warmup=300):
    return min(1.0, (step + 1) / warmup, (steps - step) / ((1 - LATE) * steps))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir")
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=7200)
    args = parser.parse_args()
    cache = load_latents(args.workdir)
    print(f"latents: mean {cache['shift']:.4f}, scale {cache['scale']:.4f}", flush=True)
    tokenizers = [AutoTokenizer.from_pretrained(f"{args.model}/{name}") for name in ("tokenizer", "tokenizer_2")]
    torch.manual_seed(0)
    F.scaled_dot_product_attention = model.plain_attention
    nets = model.networks()
    model.initialise(nets)
    average = Average(nets, 0.996)
    optimizers = make_optimizers(nets)
    path = os.path.join(args.workdir, "flow.pt")
    start, spent = 0, 0.0
    if os.path.exists(path):
        state = torch.load(path)
        nets.load_state_dict(state["model"])
        for optimizer, values in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(values)
        average.values, start, spent = state["average"], state["step"], state["seconds"]
    torch.manual_seed(start)
    rng = np.random.default_rng(start)
    print({name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()}, "from step", start, flush=True)
    began, losses = time.time(), []
    for step in range(start, args.steps):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate(step, args.steps)
        loss = loss_of(nets, tokenizers, cache, rng, late=step >= LATE * args.steps)
        nets.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(nets.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        average.update(step)
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} loss {np.mean(losses[-50:]):.4f} {spent + time.time() - began:.0f} s", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            save(path, model=nets.state_dict(), optimizers=[o.state_dict() for o in optimizers], average=average.values,
                 step=step + 1, seconds=spent + time.time() - began)


if __name__ == "__main__":
    main()
