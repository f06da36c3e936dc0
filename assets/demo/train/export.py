"""Write the trained networks as a diffusers folder, in bf16.

    python export.py WORKDIR MODEL

takes WORKDIR/vae.pt and WORKDIR/flow.pt (the averaged weights of both) and WORKDIR/latents.pt, and writes everything in
MODEL but the tokenizers: the networks, the scheduler, model_index.json, sluice.json and prompts.txt.
"""

import json
import os
import sys

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

import data
import model
import train_vae
from make_tokenizers import T5_LENGTH, write_json

INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.30.0",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "_diffusers_version": "0.30.0",
    "base_image_seq_len": 256, "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15,
    "num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True,
}
SETTINGS = {
    "width": data.SIZE, "height": data.SIZE, "steps": 20, "guidance": 3.5, "max_sequence_length": T5_LENGTH,
    "prompts": [
        "a red apple on a blue background",
        "a small octopus on a yellow background",
        "a rocket on a black background",
        "a small panda face on a green background",
        "a birthday cake on a pink background",
        "a tiny owl on a purple background",
    ],
}


def write_weights(path, state, prefix=""):
    save_file({prefix + name: tensor.to(torch.bfloat16).contiguous() for name, tensor in state.items()},
              path, metadata={"format": "pt"})


def preview_matrix(cache):
    """Least squares from model-space latents to the picture's mean colour over each 8x8 pixels, in -1..1."""
    x = (cache["latents"].double().movedim(4, -1).flatten(0, -2) - cache["shift"]) * cache["scale"]
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    solution = torch.linalg.lstsq(x, cache["colours"].double().view(-1, 3)).solution
    return [[round(v, 5) for v in row] for row in solution.tolist()]


def main():
    workdir, folder = sys.argv[1:]
    cache = torch.load(f"{workdir}/latents.pt")
    for part in ("scheduler", "text_encoder", "text_encoder_2", "transformer", "vae"):
        os.makedirs(f"{folder}/{part}", exist_ok=True)
    write_json(f"{folder}/model_index.json", INDEX)
    write_json(f"{folder}/scheduler/scheduler_config.json", SCHEDULER)
    write_json(f"{folder}/sluice.json", SETTINGS)
    with open(f"{folder}/prompts.txt", "w", encoding="utf-8") as file:
        file.writelines(data.caption(*prompt) + "\n" for prompt in data.prompts())

    nets = model.networks()
    average = torch.load(f"{workdir}/flow.pt")["average"]
    for key, part in (("clip", "text_encoder"), ("t5", "text_encoder_2")):
        config = nets[key].config
        config.architectures = [type(nets[key]).__name__]
        config.dtype = "bfloat16"
        config.to_json_file(f"{folder}/{part}/config.json", use_diff=False)
    nets["flux"].save_config(f"{folder}/transformer")
    state = {key: {n.removeprefix(key + "."): t for n, t in average.items() if n.startswith(key + ".")} for key in nets}
    write_weights(f"{folder}/text_encoder/model.safetensors", state["clip"], prefix="text_model.")
    write_weights(f"{folder}/text_encoder_2/model.safetensors", state["t5"])
    write_weights(f"{folder}/transformer/diffusion_pytorch_model.safetensors", state["flux"])

    *factors, bias = preview_matrix(cache)
    vae = AutoencoderKL(**train_vae.CONFIG)
    vae.register_to_config(scaling_factor=round(cache["scale"], 4), shift_factor=round(cache["shift"], 4))
    vae.save_config(f"{folder}/vae")
    with open(f"{folder}/vae/config.json", encoding="utf-8") as file:
        config = json.load(file)
    write_json(f"{folder}/vae/config.json", {**config, "latent_rgb_factors": factors, "latent_rgb_factors_bias": bias})
    write_weights(f"{folder}/vae/diffusion_pytorch_model.safetensors", torch.load(f"{workdir}/vae.pt")["average"])


if __name__ == "__main__":
    main()
