"""Writes variants/: what diffusers, transformers and k-diffusion compute with make_golden.py's pipelines another way.

    python make_variants.py        needs what make_golden.py and make_samplers.py need

  cfg.safetensors       BASE by FluxPipeline in fp32, from both prompts' text, with true_cfg_scale: every latent and
                        joined velocity, and the image; its metadata adds cfg and negative to the job of BASE
  cfg_f64_bf16_time.safetensors, cfg_bf16_error.json  as stages_f64_bf16_time and bf16_error of make_golden.py; kinds
                        "chain_bf16_time", "diffusers" and "fp32"
  heun.safetensors, dpmpp_2m.safetensors  BASE's transformer in fp32 driven by k-diffusion's own functions: every
                        latent; metadata: sampler
  t5_independent.safetensors  "NAME/CHUNK" [tokens, width]: T5EncoderModel in fp32 on each CHUNK of NAME's ids alone
"""

import os
import tempfile

import torch
from diffusers import FluxPipeline
from transformers import AutoTokenizer, CLIPTokenizer

import files
import make_golden
import make_samplers

FOLDER = os.path.join(make_golden.HERE, "variants")
BASE = "dev96"
CFG, NEGATIVE = 2.5, "z q c z"
T5_CHUNKS = (("dev96", 24), ("odd320", 7))  # neither divides the tokens


# --- classifier-free guidance --------------------------------------------------------------------------------------
def encode(pipe, prompt):
    pipe.prompt = prompt
    pipe.clip_ids, pipe.t5_ids = pipe.tokenize()
    return pipe.t5(), pipe.clip()


def joined(positive, negative):
    return negative + CFG * (positive - negative)


def chain(pipe, prompt, rounded=None):
    """make_golden.Pipeline.chain with two conditions, so far as it is compared."""
    conditions = [encode(pipe, text) for text in (prompt, NEGATIVE)]
    sigmas, latent = pipe.sigmas(), pipe.noise().to(pipe.dtype)
    wide = torch.promote_types(pipe.dtype, torch.float32)
    out = {}
    for i in range(pipe.p["steps"]):
        with pipe.time(sigmas[i], rounded):
            v = joined(*(pipe.velocity(latent, sigmas[i] * 1000 / 1000, *c) for c in conditions))
        latent = (latent.to(wide) + (sigmas[i + 1] - sigmas[i]) * v).to(pipe.dtype)
        out[f"velocity_{i + 1:02}"], out[f"latent_{i + 1:02}"] = v, latent
    out["image"] = pipe.decode(latent)
    return out


def diffusers(pipe, prompt):
    """The same by FluxPipeline, which tokenises and encodes both prompts itself."""
    with tempfile.TemporaryDirectory() as folder:
        make_golden.write_tokenizers(folder, pipe.tokenizers)
        flux = FluxPipeline(
            scheduler=pipe.scheduler(), tokenizer=CLIPTokenizer.from_pretrained(os.path.join(folder, "tokenizer")),
            tokenizer_2=AutoTokenizer.from_pretrained(os.path.join(folder, "tokenizer_2")), **pipe.parts)
    flux.set_progress_bar_config(disable=True)
    latents, velocities = [], []
    hook = flux.transformer.register_forward_hook(lambda m, i, o: velocities.append(pipe.unpack(o[0])))

    def step(flux, i, t, kwargs):
        latents.append(pipe.unpack(kwargs["latents"]))
        return {}

    p = pipe.p
    result = flux(
        prompt, negative_prompt=NEGATIVE, true_cfg_scale=CFG, max_sequence_length=p["t5_tokens"], height=p["height"],
        width=p["width"], num_inference_steps=p["steps"], guidance_scale=p["guidance"], output_type="pt",
        latents=pipe.pack(pipe.noise().to(pipe.dtype)), callback_on_step_end=step).images[0]
    hook.remove()
    assert len(velocities) == 2 * p["steps"] == 2 * len(latents)
    out = {}
    for i, latent in enumerate(latents):
        out[f"velocity_{i + 1:02}"], out[f"latent_{i + 1:02}"] = joined(*velocities[2 * i : 2 * i + 2]), latent
    out["image"] = pipe.decode(latents[-1])
    assert torch.equal((out["image"] / 2 + 0.5).clamp(0, 1).float(), result.float())
    return out


def make_cfg():
    pipe = make_golden.Pipeline(make_golden.PIPELINES[BASE])
    prompt, error = pipe.prompt, make_golden.error
    plain = pipe.diffusers()
    fp32, by_hand = diffusers(pipe, prompt), chain(pipe, prompt)
    assert fp32.keys() == by_hand.keys()
    assert all(error(by_hand[k], fp32[k])["rel"] < 2e-6 for k in fp32)
    assert error(fp32["image"], plain["image"])["rel"] > 0.1  # else there is nothing to compare
    with make_golden.in_double():
        truth = chain(pipe.to(torch.float64), prompt)
        truth_bf16_time = chain(pipe, prompt, torch.bfloat16)
    pipe.to(torch.bfloat16)
    half, half_diffusers = chain(pipe, prompt, torch.bfloat16), diffusers(pipe, prompt)
    errors = {"chain_bf16_time": {k: error(half[k], truth_bf16_time[k]) for k in truth},
              "diffusers": {k: error(half_diffusers[k], truth[k]) for k in truth},
              "fp32": {k: error(fp32[k], truth[k]) for k in truth}}
    files.save(fp32, os.path.join(FOLDER, "cfg.safetensors"), {"cfg": str(CFG), "negative": NEGATIVE})
    exact = {k: v.float() for k, v in truth_bf16_time.items()}
    files.save(exact, os.path.join(FOLDER, "cfg_f64_bf16_time.safetensors"), {})
    make_golden.write_json(os.path.join(FOLDER, "cfg_bf16_error.json"), errors, rows=True)
    print("cfg", {kind: {k: e["rel"] for k, e in of.items()} for kind, of in errors.items()})


# --- samplers ------------------------------------------------------------------------------------------------------
def sampled(pipe, sample):
    """The latent before each step and after the last, by a function of k-diffusion."""
    hidden, pooled = pipe.t5(), pipe.clip()
    latents = []

    def model(x, sigma):
        return x - sigma * pipe.velocity(x[0], sigma[0], hidden, pooled)[None]

    end = sample(model, pipe.noise()[None], pipe.sigmas(), callback=lambda d: latents.append(d["x"][0]), disable=True)
    return {f"latent_{i:02}": x for i, x in enumerate([*latents, end[0]])}


def make_samples():
    pipe = make_golden.Pipeline(make_golden.PIPELINES[BASE])
    k_diffusion, error = make_samplers.k_diffusion(), make_golden.error
    euler, plain = sampled(pipe, k_diffusion.sample_euler), pipe.diffusers()
    assert all(error(x, plain[k])["rel"] < 2e-6 for k, x in euler.items())  # so the model given to it is right
    for sampler in ("heun", "dpmpp_2m"):
        latents = sampled(pipe, getattr(k_diffusion, f"sample_{sampler}"))
        files.save(latents, os.path.join(FOLDER, f"{sampler}.safetensors"), {"sampler": sampler})
        print(sampler, "from euler", {k: error(x, euler[k])["rel"] for k, x in latents.items()})


# --- T5 ------------------------------------------------------------------------------------------------------------
def make_t5():
    out = {}
    for name, chunk in T5_CHUNKS:
        pipe = make_golden.Pipeline(make_golden.PIPELINES[name])
        encoder = pipe.parts["text_encoder_2"]
        parts = [encoder(ids).last_hidden_state[0] for ids in pipe.t5_ids.split(chunk, 1)]
        out[f"{name}/{chunk}"] = torch.cat(parts)
        print(f"t5 {name}/{chunk} from whole", make_golden.error(out[f"{name}/{chunk}"], pipe.t5()[0]))
    files.save(out, os.path.join(FOLDER, "t5_independent.safetensors"), {})


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    with torch.no_grad():
        make_cfg()
        make_samples()
        make_t5()
