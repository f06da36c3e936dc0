"""Makes the golden pipelines: small random-weight FLUX.1 models and what diffusers and transformers compute with them.

    python make_golden.py [--debug FOLDER] [--fp16] [name ...]

For each pipeline it writes, beside this file, NAME/ as a diffusers folder without data files (config.json and
header.json per component; synth.py's law fills the weights; tokenizers that know the letters a to z), and:
  stages.safetensors      diffusers' own fp32 run: ids, encoder outputs, sigmas, every latent and velocity, image,
                          encode_mean (of encode_in); the flat_* tensors, inputs so small that the norms' epsilons show;
                          its metadata holds the job (prompt, width, height, steps, guidance, seeds) and
                          "crc32 COMPONENT", the exclusive or of the CRC-32 of each tensor's name and data
  stages_f64.safetensors  the same chain in double (the truth), rounded to fp32 for storage
  stages_f64_bf16_time.safetensors  the truth again, but timestep and guidance are rounded to bf16 before and after
                          they are multiplied by 1000, as BFL does in bf16. That alone (3500 becomes 3504) moves a
                          random-weight model's picture further than all of bf16's other roundings together
  bf16_error.json         how far torch is from the truth: {kind: {tensor: {"rel", "max"}}};
                          rel = ||a-b||2/||b||2, max = max|a-b|. Kinds:
                          "stage", "chain"       each stage alone in bf16 on the truth's inputs; all of it in bf16 from
                                                 the same noise; time unrounded, against stages_f64
                          "stage_bf16_time", "chain_bf16_time"  both with rounded time, against stages_f64_bf16_time
                          "diffusers"            FluxPipeline in bf16 (which rounds time once more) against stages_f64
                          "fp32"                 stages.safetensors against stages_f64
  stages_f64_fp16_time.safetensors, fp16_error.json  for FP16_NAMES: the same for fp16, with time rounded to fp16; kinds
                          "stage_fp16_time" and "chain_fp16_time". --fp16 makes these only
In double, diffusers' own fp32 constants (rope cos and sin, the sinusoid of the timestep) stay as it computes them.
Noise is torch's CPU randn in fp32, [C, h, w]. Does not make noise goldens
(make_noise.py).
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import tempfile
import warnings
import zlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.models.transformers import transformer_flux
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import save_file
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel
from transformers.models.t5 import modeling_t5
from transformers.utils import logging as transformers_logging

import files
import synth

HERE = os.path.dirname(os.path.abspath(__file__))
diffusers_logging.set_verbosity_error()
transformers_logging.set_verbosity_error()
torch.set_num_threads(1)  # the sums must not depend on the machine's core count


# --- the pipelines -------------------------------------------------------------------------------------------------
def clip(vocab, width, heads, layers, mlp, tokens, act, eos, pad=1, eps=1e-5):
    return {
        "architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "bos_token_id": 0, "dropout": 0.0,
        "eos_token_id": eos, "hidden_act": act, "hidden_size": width, "initializer_factor": 1.0,
        "initializer_range": 0.02, "intermediate_size": mlp, "layer_norm_eps": eps, "max_position_embeddings": tokens,
        "model_type": "clip_text_model", "num_attention_heads": heads, "num_hidden_layers": layers,
        "pad_token_id": pad, "projection_dim": width, "vocab_size": vocab,
    }


def t5(vocab, width, heads, head_dim, layers, ff, buckets=32, distance=128, eps=1e-6):
    return {
        "architectures": ["T5EncoderModel"], "classifier_dropout": 0.0, "d_ff": ff, "d_kv": head_dim, "d_model": width,
        "decoder_start_token_id": 0, "dense_act_fn": "gelu_new", "dropout_rate": 0.1, "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0, "is_encoder_decoder": True, "is_gated_act": True,
        "layer_norm_epsilon": eps, "model_type": "t5", "num_decoder_layers": layers, "num_heads": heads,
        "num_layers": layers, "output_past": True, "pad_token_id": 0, "relative_attention_max_distance": distance,
        "relative_attention_num_buckets": buckets, "tie_word_embeddings": False, "use_cache": True,
        "vocab_size": vocab,
    }


def flux(channels, heads, head_dim, doubles, singles, context, pooled, guidance, axes=None):
    config = {
        "_class_name": "FluxTransformer2DModel", "_diffusers_version": "0.30.0.dev0", "attention_head_dim": head_dim,
        "guidance_embeds": guidance, "in_channels": channels, "joint_attention_dim": context,
        "num_attention_heads": heads, "num_layers": doubles, "num_single_layers": singles, "patch_size": 1,
        "pooled_projection_dim": pooled,
    }
    if axes:
        config["axes_dims_rope"] = axes
    return config


def vae(latent, channels, layers, groups, scaling, shift, **more):
    return {
        "_class_name": "AutoencoderKL", "_diffusers_version": "0.30.0.dev0", "act_fn": "silu",
        "block_out_channels": channels, "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "force_upcast": True, "in_channels": 3, "latent_channels": latent, "layers_per_block": layers,
        "norm_num_groups": groups, "out_channels": 3, "sample_size": 1024, "scaling_factor": scaling,
        "shift_factor": shift, "up_block_types": ["UpDecoderBlock2D"] * len(channels), **more,
    }


FLUX_VAE = {"latents_mean": None, "latents_std": None, "mid_block_add_attention": True, "use_quant_conv": False,
            "use_post_quant_conv": False}


def scheduler(dynamic, shift, **more):
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.30.0.dev0",
        "base_image_seq_len": 256, "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15,
        "num_train_timesteps": 1000, "shift": shift, "use_dynamic_shifting": dynamic, **more,
    }


def tokenizers(clip, t5, tokens, words, seed, pad="<|endoftext|>", above=()):
    """Files of tokenizer/ and tokenizer_2/ that give every letter an id, and a prompt of `words` letters.

    Letters a, b, ... get the CLIP ids `above` first (ids larger than that of the end). The other pieces are out of
    reach.
    """
    g = np.random.default_rng(seed)
    vocab, end = clip["vocab_size"], clip["eos_token_id"]
    end = vocab - 1 if end == 2 else end
    letters = "abcdefghijklmnopqrstuvwxyz"
    ids = [*above, *g.choice(np.arange(2, end), len(letters) - len(above), replace=False)]
    pieces = [f"{i}!" for i in range(vocab)]
    pieces[0], pieces[end] = "<|startoftext|>", "<|endoftext|>"
    if pad != "<|endoftext|>":
        pieces[clip["pad_token_id"]] = pad
    for letter, i in zip(letters, ids):
        pieces[i] = letter + "</w>"
    t5_pieces = ["<pad>", "</s>", "<unk>"] + [f"{i}!" for i in range(3, t5["vocab_size"])]
    for letter, i in zip(letters, g.choice(np.arange(3, t5["vocab_size"]), len(letters), replace=False)):
        t5_pieces[i] = "\u2581" + letter
    special = [{"id": i, "content": t5_pieces[i], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i in range(3)]
    space = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    end_of_text = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    return " ".join(["a", "b", *g.choice(list(letters), words - 2)]), {
        "tokenizer/vocab.json": {piece: i for i, piece in enumerate(pieces)},
        "tokenizer/merges.txt": "#version: 0.2\n",
        "tokenizer/tokenizer_config.json": {
            "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
            "pad_token": pad, "model_max_length": clip["max_position_embeddings"], "tokenizer_class": "CLIPTokenizer"},
        "tokenizer_2/tokenizer.json": {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, space]},
            "post_processor": {
                "type": "TemplateProcessing", "single": [sequence, end_of_text],
                "pair": [sequence, end_of_text, {"Sequence": {"id": "B", "type_id": 0}}, end_of_text],
                "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
            "decoder": space,
            "model": {"type": "Unigram", "unk_id": 2, "byte_fallback": False,
                      "vocab": [[piece, -1.0] for piece in t5_pieces]}},
        "tokenizer_2/tokenizer_config.json": {
            "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "extra_ids": 0, "model_max_length": tokens,
            "tokenizer_class": "T5Tokenizer"},
    }


FP16_NAMES = ("dev96", "wide256")  # enough to compare with; the files are large
PIPELINES = {
    # FLUX.1-dev in small: guidance, dynamic shift, factor 8; CLIP says eos 2 as FLUX's file does (so: the largest id).
    "dev96": dict(
        dtype="BF16", weight_seed=11, noise_seed=42, width=80, height=48, steps=4, guidance=3.5,
        transformer=flux(64, 3, 32, 2, 3, 56, 48, True, [8, 12, 12]),
        vae=vae(16, [32, 32, 64, 64], 2, 8, 0.3611, 0.1159, **FLUX_VAE),
        text_encoder=clip(512, 48, 3, 3, 192, 77, "quick_gelu", 2),
        text_encoder_2=t5(384, 56, 3, 16, 3, 120),
        scheduler=scheduler(True, 3.0),
        words=14, t5_tokens=64,
    ),
    # schnell in small: no guidance, no shift; factor 4, quant convs (by default: the keys are absent); fp32 weights.
    "schnell128": dict(
        dtype="F32", weight_seed=12, noise_seed=7, width=128, height=64, steps=4, guidance=0.0,
        transformer=flux(16, 2, 64, 1, 2, 64, 64, False, [16, 24, 24]),
        vae=vae(4, [32, 64, 96], 1, 16, 0.18215, 0.0),
        text_encoder=clip(300, 64, 4, 2, 160, 33, "gelu", 299, pad=299),
        text_encoder_2=t5(200, 64, 4, 16, 2, 160, buckets=16, distance=40, eps=1e-3),
        scheduler=scheduler(False, 1.0),
        words=50, t5_tokens=96,
    ),
    # Odd sizes: 5 heads, an eos that is not the largest id, 37 tokens, a VAE without attention; fp16 weights.
    "odd320": dict(
        dtype="F16", weight_seed=13, noise_seed=2**40 + 7, width=32, height=80, steps=3, guidance=1.75,
        transformer=flux(32, 5, 64, 3, 1, 72, 80, True, [8, 28, 28]),
        vae=vae(8, [48, 72], 2, 24, 0.9, -0.25, **{**FLUX_VAE, "mid_block_add_attention": False}),
        text_encoder=clip(260, 80, 2, 2, 200, 20, "gelu", 250, eps=1e-3),
        text_encoder_2=t5(128, 72, 5, 24, 4, 88),
        scheduler=scheduler(True, 3.0, base_shift=0.25, max_shift=1.3),
        words=11, t5_tokens=37, pad="<pad>", above=(255, 259),
    ),
    # FLUX's own head (128, axes by default), text beyond T5's longest distance, a fixed shift.
    "wide256": dict(
        dtype="BF16", weight_seed=14, noise_seed=0, width=64, height=64, steps=5, guidance=4.0,
        transformer=flux(64, 2, 128, 1, 1, 96, 64, True),
        vae=vae(16, [32, 64, 64, 96], 1, 32, 0.3611, 0.1159, **FLUX_VAE),
        text_encoder=clip(512, 64, 1, 2, 256, 77, "quick_gelu", 2),
        text_encoder_2=t5(384, 96, 2, 32, 2, 256),
        scheduler=scheduler(False, 3.0),
        words=180, t5_tokens=200,
    ),
}
COMPONENTS = ("transformer", "vae", "text_encoder", "text_encoder_2")


# --- building ------------------------------------------------------------------------------------------------------
def build(p, component):
    config = p[component]
    if component == "transformer":
        return FluxTransformer2DModel.from_config(config)
    if component == "vae":
        return AutoencoderKL.from_config(config)
    if component == "text_encoder":
        return CLIPTextModel(CLIPTextConfig.from_dict(config))
    return T5EncoderModel(T5Config.from_dict(config))


def file_name(component, name):
    """The name people's files have for a state_dict name; None if files do not have it."""
    if component == "text_encoder":
        return "text_model." + name if not name.startswith("text_model.") else name
    if component == "text_encoder_2" and name == "encoder.embed_tokens.weight":
        return None
    return name


def load(p, component):
    """The module in fp32 holding the synthetic weights, its header, and the checksum of both."""
    model = build(p, component).eval().requires_grad_(False)
    header, state, crc = {}, {}, 0
    for name, value in model.state_dict().items():
        stored = file_name(component, name)
        if stored is None:
            continue
        shape = list(value.shape)
        header[stored] = {"dtype": p["dtype"], "shape": shape}
        data = synth.tensor(stored, p["weight_seed"], shape, p["dtype"])
        state[name] = torch.from_numpy(data)
        crc ^= zlib.crc32(synth.stored(data, p["dtype"]), zlib.crc32(stored.encode()))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(n == "encoder.embed_tokens.weight" for n in missing), (missing, unexpected)
    if component == "text_encoder_2":
        assert torch.equal(model.encoder.embed_tokens.weight, model.shared.weight)
    return model, header, crc


# --- the truth: diffusers' and transformers' casts to fp32 left out -------------------------------------------------
def rms_norm_f64(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def rotary_f64(x, freqs, sequence_dim=1):
    cos, sin = (f.double()[None, :, None, :] for f in freqs)
    real, imag = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return x * cos + torch.stack([-imag, real], dim=-1).flatten(3) * sin


@contextlib.contextmanager
def in_double():
    kept = modeling_t5.T5LayerNorm.forward, transformer_flux.apply_rotary_emb
    modeling_t5.T5LayerNorm.forward, transformer_flux.apply_rotary_emb = rms_norm_f64, rotary_f64
    yield
    modeling_t5.T5LayerNorm.forward, transformer_flux.apply_rotary_emb = kept


@contextlib.contextmanager
def given_time(transformer, sigma, guidance, rounded):
    """Gives time_text_embed its scalars whatever the model's dtype: unrounded (False), or rounded to a
    dtype as BFL does in bf16."""
    embed = transformer.time_text_embed
    kept = embed.forward
    scalars = [float(s) for s in (sigma, guidance) if s is not None]
    scalars = [torch.tensor([float(torch.tensor(s, dtype=rounded) * 1000) if rounded else s * 1000], dtype=torch.float32) for s in scalars]
    embed.forward = lambda *given: kept(*scalars, given[-1])
    yield
    embed.forward = kept


# --- stages --------------------------------------------------------------------------------------------------------
class Pipeline:
    def __init__(self, p):
        self.p = p
        self.prompt, self.tokenizers = tokenizers(p["text_encoder"], p["text_encoder_2"], p["t5_tokens"], p["words"],
                                                  p["weight_seed"], p.get("pad", "<|endoftext|>"), p.get("above", ()))
        self.clip_ids, self.t5_ids = self.tokenize()
        self.parts, self.headers, self.crc = {}, {}, {}
        for component in COMPONENTS:
            self.parts[component], self.headers[component], self.crc[component] = load(p, component)
        self.dtype = torch.float32
        self.factor = 2 ** (len(p["vae"]["block_out_channels"]) - 1)
        self.channels = p["vae"]["latent_channels"]
        self.h, self.w = p["height"] // self.factor, p["width"] // self.factor
        assert self.h % 2 == 0 and self.w % 2 == 0 and p["transformer"]["in_channels"] == 4 * self.channels
        self.guidance = p["guidance"] if p["transformer"]["guidance_embeds"] else None

    def to(self, dtype):
        self.dtype = dtype
        for part in self.parts.values():
            part.to(dtype)
        return self

    def tokenize(self):
        """Both ids [1, tokens], by transformers as diffusers calls it."""
        with tempfile.TemporaryDirectory() as folder:
            write_tokenizers(folder, self.tokenizers)
            clip = CLIPTokenizer.from_pretrained(os.path.join(folder, "tokenizer"))
            t5 = AutoTokenizer.from_pretrained(os.path.join(folder, "tokenizer_2"))
            how = dict(padding="max_length", truncation=True, return_tensors="pt")
            ids = (clip(self.prompt, max_length=clip.model_max_length, **how).input_ids,
                   t5(self.prompt, max_length=self.p["t5_tokens"], **how).input_ids)
        assert t5.unk_token_id not in ids[1] and t5.model_max_length == ids[1].shape[1] == self.p["t5_tokens"]
        assert ids[0].shape[1] == self.p["text_encoder"]["max_position_embeddings"]
        return ids

    def clip(self):
        return self.parts["text_encoder"](self.clip_ids).pooler_output

    def t5(self):
        return self.parts["text_encoder_2"](self.t5_ids).last_hidden_state

    def pack(self, latent):
        return FluxPipeline._pack_latents(latent[None], 1, self.channels, self.h, self.w)

    def unpack(self, tokens):
        return FluxPipeline._unpack_latents(tokens, self.p["height"], self.p["width"], self.factor)[0]

    def sigmas(self):
        """By way of the scheduler, as FluxPipeline calls it."""
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        s = self.scheduler()
        n = self.p["steps"]
        c = s.config
        mu = calculate_shift(self.h // 2 * (self.w // 2), c.base_image_seq_len, c.max_image_seq_len, c.base_shift,
                             c.max_shift)
        s.set_timesteps(n, sigmas=np.linspace(1.0, 1 / n, n), mu=mu)
        return s.sigmas

    def scheduler(self):
        return FlowMatchEulerDiscreteScheduler.from_config(self.p["scheduler"])

    def velocity(self, latent, sigma, hidden, pooled):
        ids = FluxPipeline._prepare_latent_image_ids(1, self.h // 2, self.w // 2, "cpu", self.dtype)
        out = self.parts["transformer"](
            hidden_states=self.pack(latent), timestep=sigma.reshape(1).to(self.dtype),
            guidance=None if self.guidance is None else torch.full([1], self.guidance, dtype=torch.float32),
            pooled_projections=pooled, encoder_hidden_states=hidden, img_ids=ids,
            txt_ids=torch.zeros(hidden.shape[1], 3, dtype=self.dtype), return_dict=False)[0]
        return self.unpack(out)

    def time(self, sigma, rounded):
        if rounded is None:
            return contextlib.nullcontext()
        return given_time(self.parts["transformer"], sigma, self.guidance, rounded)

    def decode(self, latent):
        c = self.p["vae"]
        z = latent / c["scaling_factor"] + c["shift_factor"]
        return self.parts["vae"].decode(z[None], return_dict=False)[0][0]

    def encode(self, image):
        c = self.p["vae"]
        return ((self.parts["vae"].encode(image[None]).latent_dist.mean - c["shift_factor"]) * c["scaling_factor"])[0]

    def noise(self):
        g = torch.Generator().manual_seed(self.p["noise_seed"])
        return torch.randn(1, self.channels, self.h, self.w, generator=g)[0]

    def picture(self):
        g = torch.Generator().manual_seed(self.p["noise_seed"] + 1)
        return torch.rand(3, self.p["height"], self.p["width"], generator=g) * 2 - 1

    def flat(self):
        """Single stages on inputs near zero: the first norms see the biases, whose variance is near epsilon."""
        g = torch.Generator().manual_seed(self.p["noise_seed"] + 2)
        c, t = self.p["vae"], self.p["transformer"]

        def small(*shape):
            return torch.randn(*shape, generator=g) * 1e-3

        out = {
            "flat_velocity_in": small(self.channels, self.h, self.w),
            "flat_hidden_in": small(self.p["t5_tokens"], t["joint_attention_dim"]),
            "flat_pooled_in": small(t["pooled_projection_dim"]),
            "flat_decode_in": (small(self.channels, self.h, self.w) - c["shift_factor"]) * c["scaling_factor"],
            "flat_encode_in": small(3, self.p["height"], self.p["width"]),
        }
        out["flat_velocity"] = self.velocity(
            out["flat_velocity_in"], self.sigmas()[0], out["flat_hidden_in"][None], out["flat_pooled_in"][None])
        out["flat_image"] = self.decode(out["flat_decode_in"])
        out["flat_encode_mean"] = self.encode(out["flat_encode_in"])
        return out

    def chain(self, rounded=None):
        """Every stage by hand, each from the one before, in self.dtype; Euler in at least fp32 as the scheduler does.
        rounded: None for time as the model rounds it, else see given_time."""
        out = {"clip_pooled": self.clip(), "t5_hidden": self.t5()}
        sigmas = self.sigmas()
        latent = self.noise().to(self.dtype)
        out["sigmas"], out["latent_00"] = sigmas, latent
        wide = torch.promote_types(self.dtype, torch.float32)
        for i in range(self.p["steps"]):
            with self.time(sigmas[i], rounded):
                v = self.velocity(latent, sigmas[i] * 1000 / 1000, out["t5_hidden"], out["clip_pooled"])
            latent = (latent.to(wide) + (sigmas[i + 1] - sigmas[i]) * v).to(self.dtype)
            out[f"velocity_{i + 1:02}"], out[f"latent_{i + 1:02}"] = v, latent
        out["image"] = self.decode(latent)
        out["encode_mean"] = self.encode(self.picture().to(self.dtype))
        out["clip_pooled"], out["t5_hidden"] = out["clip_pooled"][0], out["t5_hidden"][0]
        return out

    def diffusers(self):
        """FluxPipeline itself, in self.dtype: the same tensors as chain(), so far as it shows them."""
        pipe = FluxPipeline(
            scheduler=self.scheduler(), vae=self.parts["vae"], text_encoder=None, tokenizer=None, text_encoder_2=None,
            tokenizer_2=None, transformer=self.parts["transformer"])
        pipe.set_progress_bar_config(disable=True)
        pooled, hidden = self.clip(), self.t5()
        out = {"clip_pooled": pooled[0], "t5_hidden": hidden[0]}
        latents, velocities = [], []
        hook = self.parts["transformer"].register_forward_hook(lambda m, i, o: velocities.append(o[0]))

        def step(pipe, i, t, kwargs):
            latents.append(kwargs["latents"])
            return {}

        noise = self.noise().to(self.dtype)
        result = pipe(
            prompt_embeds=hidden, pooled_prompt_embeds=pooled, latents=self.pack(noise), height=self.p["height"],
            width=self.p["width"], num_inference_steps=self.p["steps"], guidance_scale=self.p["guidance"],
            output_type="pt", callback_on_step_end=step).images[0]
        hook.remove()
        out["sigmas"], out["latent_00"] = pipe.scheduler.sigmas, noise
        for i, (v, latent) in enumerate(zip(velocities, latents), 1):
            out[f"velocity_{i:02}"], out[f"latent_{i:02}"] = self.unpack(v), self.unpack(latent)
        out["image"] = self.decode(self.unpack(latents[-1]))
        shown = (out["image"] / 2 + 0.5).clamp(0, 1)
        assert torch.equal(shown.float(), result.float()), (shown - result).abs().max()
        out["encode_mean"] = self.encode(self.picture().to(self.dtype))
        return out


def error(a, truth):
    a, truth = a.double(), truth.double()
    return {"rel": float(f"{(a - truth).norm() / truth.norm():.6g}"), "max": float(f"{(a - truth).abs().max():.6g}")}


def debug_dump(pipe, folder, name, truth):
    """Every module's output (and the blocks' modulation) for one pass of each stage in fp32."""
    out, counts = {}, {}

    def hook(key):
        def save(module, inputs, output):
            values = output if isinstance(output, (tuple, list)) else [output]
            if hasattr(output, "to_tuple"):
                values = output.to_tuple()
            n = counts[key] = counts.get(key, 0) + 1
            for i, v in enumerate(v for v in values if isinstance(v, torch.Tensor)):
                label = key + (f".{i}" if len(values) > 1 else "") + ("" if n == 1 else f"@{n}")
                out[label] = v.detach().float().contiguous().clone()
        return save

    handles = []
    for component, part in pipe.parts.items():
        for path, module in part.named_modules():
            handles.append(module.register_forward_hook(hook(f"{component}/{path}" if path else component)))
    pooled, hidden = pipe.clip(), pipe.t5()
    pipe.velocity(truth["latent_00"], pipe.sigmas()[0], hidden, pooled)
    pipe.decode(truth[f"latent_{pipe.p['steps']:02}"])
    pipe.encode(pipe.picture())
    for h in handles:
        h.remove()
    os.makedirs(folder, exist_ok=True)
    save_file(out, os.path.join(folder, name + ".safetensors"))


def half_errors(pipe, suffix, rounded, exact):
    """Of pipe in its dtype, each stage alone and all of them."""
    steps, chain, sigmas = pipe.p["steps"], pipe.chain(rounded), pipe.sigmas()
    low = {k: v.to(pipe.dtype) for k, v in exact.items()}
    stage = {k: chain[k] for k in ("clip_pooled", "t5_hidden", "encode_mean")}
    for i in range(steps):
        with pipe.time(sigmas[i], rounded):
            stage[f"velocity_{i + 1:02}"] = pipe.velocity(
                low[f"latent_{i:02}"], sigmas[i], low["t5_hidden"][None], low["clip_pooled"][None])
    stage["image"] = pipe.decode(low[f"latent_{steps:02}"])
    return {"stage" + suffix: {k: error(v, exact[k]) for k, v in stage.items()},
            "chain" + suffix: {k: error(chain[k], exact[k]) for k in exact if k != "sigmas"}}


@torch.no_grad()
def make_fp16(name, p):
    pipe = Pipeline(p)
    with in_double():
        exact = pipe.to(torch.float64).chain(rounded=torch.float16)
    errors = half_errors(pipe.to(torch.float16), "_fp16_time", torch.float16, exact)
    assert all(math.isfinite(e["rel"]) for kind in errors.values() for e in kind.values()), (name, errors)
    folder = os.path.join(HERE, name)
    exact = {k: v.float() for k, v in exact.items() if k not in ("sigmas", "latent_00")}
    files.save(exact, os.path.join(folder, "stages_f64_fp16_time.safetensors"), {})
    write_json(os.path.join(folder, "fp16_error.json"), errors, rows=True)
    print(name, "fp16", {k: e["rel"] for k, e in errors["chain_fp16_time"].items()})


@torch.no_grad()
def make(name, p, debug):
    pipe = Pipeline(p)
    fp32 = pipe.diffusers()
    by_hand = pipe.chain()
    assert fp32.keys() == by_hand.keys()
    for key in fp32:
        assert torch.equal(fp32[key], by_hand[key]) or error(by_hand[key], fp32[key])["rel"] < 1e-6, (name, key)
        assert torch.isfinite(fp32[key]).all(), (name, key)
    flat = pipe.flat()
    if debug:
        debug_dump(pipe, debug, name, fp32)

    with in_double():
        truth = pipe.to(torch.float64).chain()
        truth_bf16_time = pipe.chain(rounded=torch.bfloat16)
    for key in truth:
        e = error(fp32[key], truth[key]) if key not in ("sigmas", "latent_00") else {"rel": 0.0}
        assert e["rel"] < 2e-5, (name, key, e)

    pipe.to(torch.bfloat16)
    errors = half_errors(pipe, "", False, truth)
    errors.update(half_errors(pipe, "_bf16_time", torch.bfloat16, truth_bf16_time))
    rounded = pipe.diffusers()
    errors["diffusers"] = {k: error(rounded[k], truth[k]) for k in truth if k != "sigmas"}
    errors["fp32"] = {k: error(fp32[k], truth[k]) for k in truth if k not in ("sigmas", "latent_00")}

    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    write_json(os.path.join(folder, "model_index.json"), {
        "_class_name": "FluxPipeline", "_diffusers_version": "0.30.0.dev0",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"], "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"]})
    for component in COMPONENTS:
        write_json(os.path.join(folder, component, "config.json"), p[component])
        write_json(os.path.join(folder, component, "header.json"), pipe.headers[component], rows=True)
    write_json(os.path.join(folder, "scheduler", "scheduler_config.json"), p["scheduler"])
    job = {k: str(p[k]) for k in ("width", "height", "steps", "guidance", "noise_seed", "weight_seed")}
    job.update({f"crc32 {c}": f"{pipe.crc[c]:08x}" for c in COMPONENTS})
    job["prompt"] = pipe.prompt
    write_tokenizers(folder, pipe.tokenizers)
    ids = {"clip_ids": pipe.clip_ids[0].int(), "t5_ids": pipe.t5_ids[0].int()}
    stages = {**ids, **fp32, "encode_in": pipe.picture(), **flat}
    files.save(stages, os.path.join(folder, "stages.safetensors"), job)
    for suffix, exact in (("", truth), ("_bf16_time", truth_bf16_time)):
        exact = {k: v.float() for k, v in exact.items() if k not in ("sigmas", "latent_00")}
        files.save(exact, os.path.join(folder, f"stages_f64{suffix}.safetensors"), job)
    write_json(os.path.join(folder, "bf16_error.json"), errors, rows=True)
    print(name, "tokens", pipe.h * pipe.w // 4, "+", p["t5_tokens"], {
        k: f"rms {truth[k].pow(2).mean().sqrt():.3f} fp32 {errors['fp32'][k]['rel']:.1e} "
           f"stage {errors['stage'].get(k, {}).get('rel', 0):.1e} chain {errors['chain'][k]['rel']:.1e} "
           f"chain_bf16_time {errors['chain_bf16_time'][k]['rel']:.1e} diffusers {errors['diffusers'][k]['rel']:.1e}"
        for k in exact})


def write_tokenizers(folder, files):
    for path, value in files.items():
        if isinstance(value, dict):
            write_json(os.path.join(folder, path), value, indent=None)
        else:
            with open(os.path.join(folder, path), "w", encoding="utf-8") as f:
                f.write(value)


def write_json(path, value, rows=False, indent=2):
    """Indented; with rows, an inner object takes one line."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        if not rows:
            f.write(json.dumps(value, indent=indent, ensure_ascii=False))
        elif all("rel" in v or "dtype" in v for v in value.values()):
            f.write("{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n}")
        else:
            parts = (
                f"  {json.dumps(k)}: {{\n" + ",\n".join(f"    {json.dumps(n)}: {json.dumps(e)}" for n, e in v.items())
                + "\n  }" for k, v in value.items())
            f.write("{\n" + ",\n".join(parts) + "\n}")
        f.write("\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--debug", metavar="FOLDER")
    parser.add_argument("--fp16", action="store_true")
    parser.add_argument("names", nargs="*", default=[])
    args = parser.parse_args()
    for name in args.names or PIPELINES:
        if not args.fp16:
            make(name, PIPELINES[name], args.debug)
        if name in FP16_NAMES:
            make_fp16(name, PIPELINES[name])
