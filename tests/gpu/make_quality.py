"""Make tests/gpu/quality.safetensors: by what gpu-check judges the shipped model's pictures (quality.c).

    python tests/gpu/make_quality.py [PICTURES]

From the repository's root, after `make`, with Pillow, NumPy and Debian's fonts-noto-color-emoji. Holds every eighth
prompt of assets/demo/prompts.txt with its token ids, what it asks for, and what the judge finds in the processor's
bf16 picture of it; and the emoji as means over boxes of 8 x 8 pixels (premultiplied red, green, blue, and alpha), from
which a picture on any background follows, as means of sums are sums of means.

PICTURES: a folder with 000.png .. 099.png of all prompts: how the judge does on those, instead.
"""

import json
import os
import re
import struct
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

sys.path.insert(0, "assets/demo/train")
import data  # noqa: E402

OUT = "tests/gpu/quality.safetensors"
BOX, BORDER, REACH = 8, 6, 2  # pixels; REACH: boxes an emoji is moved
CELLS = data.SIZE // BOX
FIRST, EVERY, COUNT = 1, 8, 12
COLOURS = list(data.COLOURS)


def means(picture):
    """[128, 128, c] to [16, 16, c]."""
    return picture.reshape(CELLS, BOX, CELLS, BOX, -1).mean((1, 3))


def boxes(size):
    """All emoji, U8 [kind, cells, cells, 4]: no more of them than the size covers."""
    side = data.SIZES[size][0]
    edge = (data.SIZE - side) // 2 // BOX
    out = []
    for kind in data.KINDS:
        canvas = np.zeros((data.SIZE, data.SIZE, 4))
        emoji = data.glyph(kind).resize((side, side), Image.Resampling.LANCZOS)
        at = (data.SIZE - side) // 2
        canvas[at:at + side, at:at + side] = np.asarray(emoji, dtype=float)
        canvas[..., :3] *= canvas[..., 3:] / 255
        out.append(means(canvas)[edge:CELLS - edge, edge:CELLS - edge])
    return np.rint(np.stack(out)).astype(np.uint8)


def judge(picture, colour, templates):
    """As quality.c: kind, whether small, colour of the background."""
    ground = np.array(data.COLOURS[COLOURS[colour]], dtype=float)
    rest = np.zeros((CELLS + 2 * REACH, CELLS + 2 * REACH, 3))
    rest[REACH:-REACH, REACH:-REACH] = means(picture.astype(float)) - ground
    best = (np.inf, 0, 0)
    for small, t in enumerate(templates):
        difference = t[..., :3].astype(float) - t[..., 3:] / 255 * ground
        side = t.shape[1]
        first = REACH + (CELLS - side) // 2
        for y in range(-REACH, REACH + 1):
            for x in range(-REACH, REACH + 1):
                part = rest[first + y:first + y + side, first + x:first + x + side]
                apart = (difference ** 2 - 2 * difference * part).sum((1, 2, 3))
                best = min(best, (apart.min(), int(apart.argmin()), small))
    edge = np.ones((data.SIZE, data.SIZE), dtype=bool)
    edge[BORDER:-BORDER, BORDER:-BORDER] = False
    mean = picture[edge].mean(0)
    apart = [((mean - data.COLOURS[name]) ** 2).sum() for name in COLOURS]
    return best[1], best[2], int(np.argmin(apart))


def asked(prompt):
    small, name, colour = re.fullmatch(r"an? (small )?(.+) on an? (\w+) background", prompt).groups()
    return data.NAMES.index(name), int(small is not None), COLOURS.index(colour)


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        rest = file.read()
    return {name: np.frombuffer(rest[slice(*t["data_offsets"])], {"I32": "<i4", "F32": "<f4"}[t["dtype"]])
            for name, t in header.items() if name != "__metadata__"}


def write_safetensors(path, tensors, metadata):
    header, rest = {"__metadata__": metadata}, b""
    for name, t in tensors.items():
        header[name] = {"dtype": {"i": "I32", "u": "U8"}[t.dtype.kind], "shape": t.shape,
                        "data_offsets": [len(rest), len(rest) + t.nbytes]}
        rest += t.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + rest)


def picture_of(prompt, seed):
    """By the processor, in bf16; with its token ids."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["build/sluice", "generate", "-m", "assets/demo", "--device", "cpu", "--precision", "bf16",
                        "--seed", str(seed), "--embedding-cache", "off", "--dump-stages",
                        f"{folder}/stages.safetensors", "-o", f"{folder}/picture.png", prompt], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"SLUICE_CUDA": ""})
        stages = read_safetensors(f"{folder}/stages.safetensors")
        picture = np.asarray(Image.open(f"{folder}/picture.png").convert("RGB"))
    return picture, stages["clip_ids"].astype(np.int32), stages["t5_ids"].astype(np.int32)


def main():
    with open("assets/demo/prompts.txt", encoding="utf-8") as file:
        prompts = file.read().splitlines()
    templates = [boxes("large"), boxes("small")]
    if len(sys.argv) > 1:
        right = np.zeros(3, dtype=int)
        for i, prompt in enumerate(prompts):
            want = asked(prompt)
            found = judge(np.asarray(Image.open(f"{sys.argv[1]}/{i:03d}.png").convert("RGB")), want[2], templates)
            right += np.array(found) == want
            if found != want:
                size = "small" if found[1] else "large"
                print(f"{i:03d} {prompt}: {data.NAMES[found[0]]}, {size}, {COLOURS[found[2]]}")
        print("kind, size, background:", *right, "of", len(prompts))
        return
    chosen = range(FIRST, len(prompts), EVERY)[:COUNT]
    made = [picture_of(prompts[i], i) for i in chosen]
    want = [asked(prompts[i]) for i in chosen]
    found = [judge(m[0], w[2], templates) for m, w in zip(made, want)]
    as_ids = lambda rows: np.array(rows, dtype=np.int32)  # noqa: E731
    write_safetensors(OUT, {
        "seed": as_ids(list(chosen)), "clip_ids": as_ids([m[1] for m in made]), "t5_ids": as_ids([m[2] for m in made]),
        "asked": as_ids(want), "processor": as_ids(found), "colours": as_ids([data.COLOURS[c] for c in COLOURS]),
        "large": templates[0], "small": templates[1],
    }, {f"prompt_{n:02d}": prompts[i] for n, i in enumerate(chosen)})
    print(f"{len(want)} prompts; kind, size, background:", *(np.array(want) == np.array(found)).sum(0))


if __name__ == "__main__":
    main()
