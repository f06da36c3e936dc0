"""Writes taef1/: what diffusers' AutoencoderTiny makes of a latent, with random weights under either naming.

    python make_taef1.py        needs torch, diffusers, numpy

  diffusers.json, sequential.json  headers of a decoder's file as diffusers and as taesd name its tensors (synth.py's law
                        fills them, by name, so the two are different decoders); diffusers' has its encoder's first
                        convolution beside
  stages.safetensors    latent [C,h,w]; for each naming NAMING [H,W,3] and NAMING_half, the same of the latent averaged
                        over 2x2, in fp32, and NAMING_f64, the truth, rounded to fp32. Metadata: seed, and "NAMING bf16",
                        torch's own error in bf16 against the truth, ||a-b||2/||b||2
"""

import json
import os

import numpy as np
import torch
from diffusers import AutoencoderTiny

import files
import synth

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "taef1")
CHANNELS, WIDTH, HEIGHT_LATENT, WIDTH_LATENT, SEED = 16, 12, 6, 10, 5
torch.set_num_threads(1)  # the sums must not depend on the machine's core count


def model():
    return AutoencoderTiny(latent_channels=CHANNELS, decoder_block_out_channels=(WIDTH,) * 4,
                           encoder_block_out_channels=(WIDTH,) * 4).eval()


def names(naming, key):
    """decoder.layers.2.conv.0.weight; in taesd's list a clamp without weights is the first."""
    if naming == "diffusers":
        return key
    place, rest = key.removeprefix("decoder.layers.").split(".", 1)
    return f"{int(place) + 1}.{rest}"


def run(decoder, latent, dtype):
    with torch.no_grad():
        return decoder.to(dtype)(latent.to(dtype))[0].permute(1, 2, 0).double()


def main():
    os.makedirs(FOLDER, exist_ok=True)
    out = {"latent": 2 * np.random.default_rng(SEED).standard_normal((CHANNELS, HEIGHT_LATENT, WIDTH_LATENT)).astype(
        np.float32)}
    metadata = {"seed": str(SEED)}
    latent = torch.from_numpy(out["latent"])[None]
    for naming in ("diffusers", "sequential"):
        m, header = model(), {}
        for key, value in m.state_dict().items():
            if key.startswith("decoder."):
                name = names(naming, key)
                value.copy_(torch.from_numpy(synth.tensor(name, SEED, tuple(value.shape), "F32")))
            elif naming == "diffusers" and key.startswith("encoder.layers.0."):
                name = key
            else:
                continue
            header[name] = {"dtype": "F32", "shape": list(value.shape)}
        with open(os.path.join(FOLDER, f"{naming}.json"), "w") as f:
            json.dump(header, f, indent=0, separators=(",", ":"))
            f.write("\n")
        truth = run(m.decoder, latent, torch.float64)
        half = torch.nn.functional.avg_pool2d(latent, 2)
        out[naming] = run(m.decoder, latent, torch.float32).float().numpy()
        out[f"{naming}_half"] = run(m.decoder, half, torch.float32).float().numpy()
        out[f"{naming}_f64"] = truth.float().numpy()
        error = run(m.decoder, latent, torch.bfloat16) - truth
        metadata[f"{naming} bf16"] = f"{float(error.norm() / truth.norm()):.6g}"
        print(naming, metadata[f"{naming} bf16"], float(truth.min()), float(truth.max()), float(truth.std()))
    files.save(out, os.path.join(FOLDER, "stages.safetensors"), metadata)


if __name__ == "__main__":
    main()
