"""Train the two tokenizers on the captions and on the Unicode names of all emoji.

    python make_tokenizers.py MODEL

writes MODEL/tokenizer (CLIP: lower-cased byte-level BPE with </w>) and MODEL/tokenizer_2 (T5: SentencePiece unigram).
"""

import json
import os
import string
import sys
import unicodedata

import numpy as np
import sentencepiece
import tokenizers
from transformers import T5Tokenizer

import data

VOCABULARY = 1024
CLIP_LENGTH = 77
T5_LENGTH = 32  # the demo's sequence length, 512 in FLUX.1-dev
START, END = "<|startoftext|>", "<|endoftext|>"


def corpus():
    rng = np.random.default_rng(0)
    lines = [data.loose_caption(name, size, colour, rng)
             for name in data.NAMES for size in data.SIZES for colour in data.COLOURS]
    emoji = [unicodedata.name(chr(c), "").lower() for c in range(0x1F300, 0x1FB00)]
    lines += 2 * [name for name in emoji if name]
    return lines + [line.capitalize() for line in lines[::4]]


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")


def byte_letters():
    """The letter that stands for each byte, in CLIP's order: printable bytes first, then the others."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def make_clip(folder, lines):
    """Every byte is a token, alone and at the end of a word: any text can be written."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = tokenizers.normalizers.Lowercase()
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", invert=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    bpe.train_from_iterator(lines, tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY, end_of_word_suffix="</w>", show_progress=False))
    merges = [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]][:VOCABULARY - 512 - 2]
    letters = byte_letters()
    tokens = letters + [c + "</w>" for c in letters] + [a + b for a, b in merges] + [START, END]
    assert len(set(tokens)) == len(tokens) == VOCABULARY
    os.makedirs(folder, exist_ok=True)
    write_json(f"{folder}/vocab.json", {token: i for i, token in enumerate(tokens)})
    with open(f"{folder}/merges.txt", "w", encoding="utf-8") as file:
        file.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    write_json(f"{folder}/special_tokens_map.json", special)
    write_json(f"{folder}/tokenizer_config.json", {
        "add_prefix_space": False, "clean_up_tokenization_spaces": True, "do_lower_case": True, "errors": "replace",
        "model_max_length": CLIP_LENGTH, "tokenizer_class": "CLIPTokenizer", **special})


def make_t5(folder, lines):
    os.makedirs(folder, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=f"{folder}/spiece", model_type="unigram", vocab_size=VOCABULARY,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>",
        character_coverage=1.0, required_chars=string.ascii_letters + string.digits + string.punctuation,
        normalization_rule_name="nmt_nfkc", num_threads=1, minloglevel=2)
    os.remove(f"{folder}/spiece.vocab")
    t5 = T5Tokenizer.from_pretrained(folder, extra_ids=0)
    t5.backend_tokenizer.save(f"{folder}/tokenizer.json")
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    write_json(f"{folder}/special_tokens_map.json", special)
    write_json(f"{folder}/tokenizer_config.json", {
        "clean_up_tokenization_spaces": True, "extra_ids": 0, "additional_special_tokens": [],
        "model_max_length": T5_LENGTH, "tokenizer_class": "T5Tokenizer", **special})


if __name__ == "__main__":
    text = corpus()
    make_clip(f"{sys.argv[1]}/tokenizer", text)
    make_t5(f"{sys.argv[1]}/tokenizer_2", text)
