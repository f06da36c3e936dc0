"""The three networks that are trained together: CLIP text encoder, T5 encoder, FLUX transformer."""

import torch
import torch.nn.functional as F
from diffusers import FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

import data
from make_tokenizers import CLIP_LENGTH, T5_LENGTH, VOCABULARY

LATENT = data.SIZE // 8
TOKENS = (LATENT // 2) ** 2


def networks():
    clip = CLIPTextModel(CLIPTextConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=CLIP_LENGTH, projection_dim=128, hidden_act="quick_gelu",
        bos_token_id=VOCABULARY - 2, eos_token_id=VOCABULARY - 1, pad_token_id=VOCABULARY - 1))
    t5 = T5EncoderModel(T5Config(
        vocab_size=VOCABULARY, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False))
    flux = FluxTransformer2DModel(
        in_channels=64, num_layers=2, num_single_layers=4, attention_head_dim=64, num_attention_heads=3,
        joint_attention_dim=128, pooled_projection_dim=128, guidance_embeds=True, axes_dims_rope=[8, 28, 28])
    return torch.nn.ModuleDict({"clip": clip, "t5": t5, "flux": flux})


def initialise(nets):
    """Blocks start as the identity and the output as zero (adaLN-Zero); other linear layers as Xavier has it."""
    for name, module in nets["flux"].named_modules():
        if isinstance(module, torch.nn.Linear):
            if "norm" in name or name == "proj_out":
                torch.nn.init.zeros_(module.weight)
            else:
                torch.nn.init.xavier_uniform_(module.weight)
            torch.nn.init.zeros_(module.bias)


def plain_attention(query, key, value, attn_mask=None, is_causal=False, scale=None, **_):
    """Attention as two products: for about a hundred tokens its gradient takes a tenth of the time of PyTorch's own
    kernel on a CPU. Masked attention (the text encoders) goes to PyTorch."""
    if attn_mask is not None or is_causal:
        return pytorch_attention(query, key, value, attn_mask=attn_mask, is_causal=is_causal, scale=scale)
    heads = query.shape[:2]
    query, key, value = (x.to(value.dtype).flatten(0, 1) for x in (query, key, value))
    weights = torch.bmm(query * query.shape[-1] ** -0.5, key.transpose(1, 2)).float().softmax(-1).to(value.dtype)
    return torch.bmm(weights, value).unflatten(0, heads)


pytorch_attention = F.scaled_dot_product_attention


def pack(latents):
    """[n, 16, h, w] to FLUX's tokens [n, h/2*w/2, 64]."""
    n, c, h, w = latents.shape
    return latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, c * 4)


def image_ids():
    row, column = torch.meshgrid(torch.arange(LATENT // 2), torch.arange(LATENT // 2), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], -1).reshape(-1, 3).float()


def encode(nets, tokenizers, captions):
    """What the transformer is given of the captions: T5's states and CLIP's pooled state."""
    clip_tokenizer, t5_tokenizer = tokenizers
    # CLIP is causal and only its state at the end of the text is used: padding to 77 would change nothing.
    clip_ids = clip_tokenizer(captions, padding=True, truncation=True, max_length=CLIP_LENGTH, return_tensors="pt")
    t5_ids = t5_tokenizer(captions, padding="max_length", truncation=True, max_length=T5_LENGTH, return_tensors="pt")
    return nets["t5"](t5_ids.input_ids)[0], nets["clip"](clip_ids.input_ids).pooler_output


def velocity(nets, tokens, time, guidance, text, pooled):
    return nets["flux"](
        hidden_states=tokens, timestep=time, guidance=guidance, encoder_hidden_states=text, pooled_projections=pooled,
        img_ids=image_ids(), txt_ids=torch.zeros(T5_LENGTH, 3), return_dict=False)[0]
