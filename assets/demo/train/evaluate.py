"""Measure the demo model: does it draw the emoji and the background it was asked for?

    python evaluate.py MODEL [--sheet SHEET.png]     generate the pictures with diffusers and measure them
    python evaluate.py MODEL --images DIR            measure DIR/000.png .. DIR/099.png, made by another program

The prompts are the lines of MODEL/prompts.txt, picture i comes from noise seed i, with the steps and the guidance in
MODEL/sluice.json. A picture counts

- for its kind, if of all trained emoji, rendered from the font at both sizes and moved by up to 16 pixels, the one
  nearest in squared distance is the one asked for;
- for its background, if the mean colour of its outermost 6 pixels is nearer the colour asked for than any other.
"""

import argparse
import functools
import json
import re

import numpy as np
import torch
from PIL import Image

import data

REACH = 16  # pixels a rendered emoji is moved
BORDER = 6
PADDED = (2 * data.SIZE, 2 * data.SIZE)


def parse(prompt):
    """The name, size and colour a prompt asks for."""
    small, name, colour = re.fullmatch(r"an? (small )?(.+) on an? (\w+) background", prompt).groups()
    return name, "small" if small else "large", colour


def generate(folder, prompts, settings):
    from diffusers import FluxPipeline
    pipeline = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pictures = []
    for first in range(0, len(prompts), 10):
        part = prompts[first:first + 10]
        pictures += pipeline(
            part, width=settings["width"], height=settings["height"], num_inference_steps=settings["steps"],
            guidance_scale=settings["guidance"], max_sequence_length=settings["max_sequence_length"],
            generator=[torch.Generator().manual_seed(first + i) for i in range(len(part))]).images
    return pictures


@functools.cache
def templates(colour, size):
    """All emoji on that colour as differences from it [kind, 3, y, x], with their conjugate spectra."""
    ground = torch.tensor(data.COLOURS[colour]) / 255
    pictures = np.stack([data.paint(glyph, size, colour) for glyph in glyphs()])
    difference = (torch.from_numpy(pictures).float() / 255 - ground).permute(0, 3, 1, 2)
    return difference.square().sum((1, 2, 3)), torch.fft.rfft2(difference, s=PADDED).conj()


@functools.cache
def glyphs():
    return [data.glyph(kind) for kind in data.KINDS]


def nearest(picture, colour):
    """Kind and size of the rendered emoji nearest to the picture, over all places within REACH."""
    rest = picture - torch.tensor(data.COLOURS[colour]) / 255
    best = (float("inf"), None, None)
    # |rest - moved template|^2 = |rest|^2 - 2 <rest, moved template> + |template|^2; the products by Fourier transform.
    spectrum = torch.fft.rfft2(rest.permute(2, 0, 1), s=PADDED)
    for size in data.SIZES:
        squares, conjugates = templates(colour, size)
        products = torch.fft.irfft2((spectrum * conjugates).sum(1))
        near = torch.roll(products, (REACH, REACH), (1, 2))[:, :2 * REACH + 1, :2 * REACH + 1].amax((1, 2))
        distances = rest.square().sum() - 2 * near + squares
        kind = int(distances.argmin())
        best = min(best, (float(distances[kind]), data.NAMES[kind], size))
    return best[1], best[2]


def background(picture):
    """The trained colour nearest to the mean of the picture's border."""
    inner = torch.zeros(picture.shape[:2], dtype=torch.bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    mean = picture[~inner].mean(0) * 255
    return min(data.COLOURS, key=lambda name: float((mean - torch.tensor(data.COLOURS[name])).square().sum()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--images")
    parser.add_argument("--sheet")
    args = parser.parse_args()
    with open(f"{args.model}/prompts.txt", encoding="utf-8") as file:
        prompts = file.read().splitlines()
    if args.images:
        pictures = [Image.open(f"{args.images}/{i:03d}.png").convert("RGB") for i in range(len(prompts))]
    else:
        with open(f"{args.model}/sluice.json", encoding="utf-8") as file:
            pictures = generate(args.model, prompts, json.load(file))
    right = {"kind": 0, "background": 0, "both": 0, "size": 0}
    for i, (prompt, picture) in enumerate(zip(prompts, pictures)):
        name, size, colour = parse(prompt)
        pixels = torch.from_numpy(np.array(picture)).float() / 255
        found, found_size = nearest(pixels, colour)
        ground = background(pixels)
        right["kind"] += found == name
        right["background"] += ground == colour
        right["both"] += found == name and ground == colour
        right["size"] += found_size == size
        if found != name or ground != colour:
            print(f"{i:03d} {prompt}: looks like {found} ({found_size}) on {ground}")
    if args.sheet:
        sheet = Image.new("RGB", (10 * data.SIZE, 10 * data.SIZE))
        for i, picture in enumerate(pictures):
            sheet.paste(picture, (i % 10 * data.SIZE, i // 10 * data.SIZE))
        sheet.save(args.sheet)
    print(", ".join(f"{what} {count} of {len(prompts)}" for what, count in right.items()))


if __name__ == "__main__":
    main()
