"""Makes tests/golden/tok: small tokenizer folders, strings, and the ids that transformers gives.

Run from the repository root with transformers 5, tokenizers and sentencepiece installed. Training breaks ties
by chance, so a second run makes other, equally good files: commit all of them together.
tests/test_tok.c reads the result; what the files look like is said there and below.

strings.txt   one string a line as raw bytes; backslash, control bytes and DEL as \\xHH
SET/...       a tokenizer folder
SET.ids       first line "max_tokens pad"; then, for each string, "t" or "-" (truncated or not),
              a space, and the ids without padding, three hexadecimal digits each
"""
import io, json, logging, os, random, shutil, sys, unicodedata, warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore")
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as spm_pb
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)
from transformers import CLIPTokenizer, PreTrainedTokenizerFast, T5Tokenizer

OUT = sys.argv[1] if len(sys.argv) > 1 else "tests/golden/tok"
R = random.Random(20260101)

WORDS = """a the of in on with and photo photograph painting drawing portrait landscape cinematic lighting golden hour
sunset mountain river forest city street night neon rain cat dog astronaut horse riding moon detailed highly 8k 4k
octane render watercolor oil ink sketch studio soft shadow bokeh lens 35mm f/1.8 film grain vintage woman man child
old young smiling holding umbrella red blue green yellow purple black white castle dragon knight sword armor robot
cyberpunk steampunk fantasy surreal abstract minimal ultra-wide close-up macro aerial view masterpiece quality it's
don't we've they'll I'm she'd you're isn't cat's dogs' rock'n'roll http://example.com name@mail.org #tag 3.14 1,000
2024 100% $5 50€ x=y+z foo_bar C++ state-of-the-art""".split()

TEXTS = {
    "latin": "Une forêt enchantée près de la rivière où naît l'été. Straße nach Köln, Äpfel & Öl. El niño comió piñas. "
             "Příliš žluťoučký kůň úpěl ďábelské ódy. Zażółć gęślą jaźń. Işık ve İstanbul, ılık ırmak. Ðe þorn ðæt. "
             "Smørrebrød på øen. ŒUVRE cœur Ærø. Tiếng Việt có dấu đặc biệt. Ǆungla ǅ ǆ ﬁnal oﬀer ﬄ",
    "combining": "e\u0301 a\u0300\u0323 o\u0302\u0301 n\u0303 z\u0335 q\u0307\u0323 A\u030A i\u0307 I\u0307 s\u0323\u0307 "
                 "\u1E9B\u0323 \u0344 \u0374 \u037E \u0387 \u212B \u2126 \u0958 \u0928\u093C \u0B47\u0B57 \uFB1D \uFB2A",
    "greek": "Ο ουρανός είναι γαλάζιος. ΜΕΓΑΛΗ ΘΑΛΑΣΣΑ ΟΔΟΣ. ᾳ ᾼ ΐ ὕψος ἄνθρωπος",
    "cyrillic": "Красивый закат над морем. ЁЛКА и подъезд; Їжак ґанок. Ѣ ѳ",
    "arabic": "صورة جميلة لغروب الشمس فوق البحر ﷺ ﻻ ٣٫١٤ لَا إِلٰهَ",
    "hebrew": "שקיעה יפה מעל הים שָׁלוֹם עֲלֵיכֶם",
    "indic": "एक सुंदर सूर्यास्त क्षत्रिय ज़िंदगी ১২৩ বাংলা தமிழ் తెలుగు ಕನ್ನಡ മലയാളം සිංහල",
    "thai": "พระอาทิตย์ตกที่สวยงาม น้ำตก กำลัง ລາວ ខ្មែរ မြန်မာ",
    "cjk": "美しい夕焼けの海。カタカナ ﾊﾝｶｸ ガ か\u3099 中文提示词,一只猫坐在桌子上!漢字 한국어 프롬프트 각 \u1100\u1161\u11A8 \u1112\u1161\u11AB "
           "㍿ ㌀ ① ⑳ Ⅷ ⅷ Ｆｕｌｌ ｗｉｄｔｈ １２３ ！？　空白",
    "emoji": "😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇯🇵🇫🇷🇩 ❤️ ☺︎ 1️⃣ #️⃣ 🧑🏿‍🚀 🫠",
    "signs": "x² y₃ ½ ⅓ ™ © ® № ℃ ℵ ∑∫ ≠ → … — – ‘’ “” « » ‹› „ ‚ • · ° ± × ÷ ª º µ ſ ĸ ŉ ﷼ ₹ ¥ ¤ ‰ ′ ″",
    "other": "Ⴀⴀ ᲐᲑ აბგ Ꭰꭰ Ա Բ ա և ⰀⰁ 𐐀𐐨 𝐀𝓑𝕮 𝟘𝟙 𞤀𞤢 ᏸ ꙮ Ɐ ẞ ß ŉ ǰ ᶏ Ⓐⓐ 🄰 Ⅳ ↀ",
}
SPACES = ["\t", "\n", "\r\n", "\v", "\f", "\x1c", "\x1f", " ", "  ", "   ", "\u0085", "\u00a0", "\u1680", "\u180e",
          "\u2000", "\u2003", "\u2009", "\u200a", "\u200b", "\u200c", "\u200d", "\u2028", "\u2029", "\u202f",
          "\u205f", "\u2060", "\u3000", "\ufeff", "\u00ad", "\u2581", "\u2581\u2581"]
CONTROLS = [chr(c) for c in list(range(0, 32)) + list(range(127, 160))] + ["\ufffc", "\ufffd", "\ufffe", "\u0600", "\u061c"]
SPECIAL = ["<|endoftext|>", "<|startoftext|>", "<|ENDOFTEXT|>", "<|EndOfText|>", "<|startoftext", "</s>", "<s>", "<pad>",
           "<unk>", "</S>", "<extra_id_0>", "<extra_id_5>", "<extra_id_99>", "<extra_id_100>", "<EXTRA_ID_5>", "</w>",
           "<0x41>", "<sks>", "<SKS>", "zwx-style", "Zwx-Style", "[mask]", "[MASK]", "ohwx"]
INVALID = [b"\x80", b"\xff", b"\xc0\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
           b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xc3(", b"\xe2(\xa1", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xe2\x82\xe2\x82\xac"]


def newer_than_python():
    """Code points that the reference knows and Python's older Unicode does not: utf8proc may not either."""
    probe = normalizers.Replace(Regex(r"\p{Cn}"), "x")
    return {c for c in range(0x110000)
            if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) == "Cn" and probe.normalize_str(chr(c)) != "x"}


def strings():
    newer = newer_than_python()
    ok = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and c not in newer]
    assigned = [c for c in ok if unicodedata.category(c) not in ("Cn", "Co")]
    marks = [c for c in assigned if unicodedata.category(c)[0] == "M"]
    cased = [c for c in assigned if c.lower() != c or c.upper() != c]
    composite = [c for c in assigned if unicodedata.decomposition(c)]
    spice = SPACES + CONTROLS + SPECIAL
    pieces = [w for t in TEXTS.values() for w in t.split(" ")]
    s = ["", " ", "  ", "\0", "a", "A", "é", "▁", "▁a", " ▁", "a ▁b", "'", "'s", "''s", "a's'", "s'", "'S", "İ", "ΑΣ", "!", "!!!!", "...",
         "</s>", " </s> ", "a</s>b", "</s></s>", "<|endoftext|>", "a <|endoftext|> b", "!<|endoftext|>!", "<|ENDOFTEXT|>!!"]
    s += list(TEXTS.values())
    s += [t.upper() for t in TEXTS.values()] + [unicodedata.normalize("NFD", t) for t in TEXTS.values()]
    s += spice + [f"a{x}b" for x in spice] + [f"x {x} y" for x in SPACES + SPECIAL] + [f"{x}a{x}" for x in SPACES + SPECIAL]
    s += [" ".join(R.choice(WORDS) for _ in range(R.randrange(1, 25))) for _ in range(250)]
    s += ["".join(R.choice(WORDS + pieces + spice) + R.choice(["", " ", " ", ", "]) for _ in range(R.randrange(1, 16))) for _ in range(400)]
    s += ["".join(R.choice(pieces) + R.choice(["", " "]) for _ in range(R.randrange(1, 12))) for _ in range(150)]
    s += ["".join(R.choice(ok) for _ in range(R.randrange(1, 12))) for _ in range(120)]
    s += ["".join(R.choice(assigned) for _ in range(R.randrange(1, 12))) for _ in range(200)]
    s += ["".join(R.choice(assigned[:3000]) for _ in range(R.randrange(1, 20))) for _ in range(200)]
    s += ["".join(R.choice(assigned[:600]) + "".join(R.choice(marks) for _ in range(R.randrange(0, 4))) for _ in range(R.randrange(1, 9))) for _ in range(150)]
    s += ["".join(R.choice(cased) for _ in range(R.randrange(1, 12))) for _ in range(80)]
    s += ["".join(R.choice(composite) + R.choice(["", "", R.choice(marks)]) for _ in range(R.randrange(1, 10))) for _ in range(150)]
    s += ["".join(R.choice("0123456789.,:;-+*/=()[]{}<>|&^%$#@!?~`'\"_ ") for _ in range(R.randrange(1, 40))) for _ in range(80)]
    s += ["".join(R.choice("aAbBstrevmld'’ .") for _ in range(R.randrange(1, 30))) for _ in range(80)]
    s += [" ".join(R.choice(WORDS) for _ in range(n)) for n in (60, 70, 74, 75, 76, 77, 78, 80, 100, 300, 520)]
    s += ["a " * n for n in (74, 75, 76, 77, 510, 511, 512, 513)] + ["x" * 900, "ab" * 700, "가" * 300, "\u0301" * 300, "!?" * 300]
    s += ["a" + "".join(R.choice(marks) for _ in range(200))]
    b = [t.encode() for t in s]
    b += [p + x + q for x in INVALID for p, q in ((b"", b""), (b"a ", b" b"), (b"a", b"b"))]
    b += [bytes(R.randrange(256) for _ in range(R.randrange(1, 20))) for _ in range(80)]
    for _ in range(80):
        t = bytearray(R.choice(list(TEXTS.values())).encode()[: R.randrange(4, 40)])
        t[R.randrange(len(t))] = R.randrange(256)
        b.append(bytes(t))
    return list(dict.fromkeys(b))


def corpus():
    lines = [" ".join(R.choice(WORDS) for _ in range(10)) for _ in range(1500)]
    return lines + [t for t in TEXTS.values() for _ in range(8)]


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))


def folder(name):
    d = os.path.join(OUT, name)
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d)
    return d


def token(content, **flags):
    return dict({"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}, **flags)


def clip_model():
    t = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>", continuing_subword_prefix=""))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "removed", invert=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=1300, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False))
    merges = [tuple(m) for m in json.loads(t.to_str())["model"]["merges"]]
    # OpenAI's order: bytes, bytes that end a word, merges, the two special tokens.
    names = alphabet + [a + "</w>" for a in alphabet] + list(dict.fromkeys(a + b for a, b in merges))
    names = list(dict.fromkeys(names)) + ["<|startoftext|>", "<|endoftext|>"]
    return {n: i for i, n in enumerate(names)}, merges


def clip_folders():
    vocab, merges = clip_model()
    # As FLUX.1 ships it.
    d = folder("clip_files")
    write_json(d + "/vocab.json", vocab)
    with open(d + "/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    start, end = len(vocab) - 2, len(vocab) - 1
    common = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "model_max_length": 77,
              "tokenizer_class": "CLIPTokenizer", "do_lower_case": True, "errors": "replace"}
    write_json(d + "/tokenizer_config.json", dict(common, pad_token="<|endoftext|>", added_tokens_decoder={
        str(start): token("<|startoftext|>", normalized=True), str(end): token("<|endoftext|>", normalized=True)}))
    write_json(d + "/special_tokens_map.json", {"bos_token": token("<|startoftext|>", normalized=True), "eos_token": token("<|endoftext|>"),
                                                "pad_token": "!", "unk_token": token("<|endoftext|>")})
    yield "clip_files", CLIPTokenizer.from_pretrained(d), 77
    # tokenizer.json alone, as transformers writes it, with textual-inversion style tokens; another padding.
    made = CLIPTokenizer(vocab=vocab, merges=merges, pad_token="!")
    made.add_tokens([AddedToken("<sks>", normalized=False), AddedToken("Zwx-Style", normalized=True, single_word=True),
                     AddedToken("[mask]", lstrip=True, rstrip=True, normalized=False), AddedToken("ohwx", lstrip=True, normalized=True)])
    d = folder("clip_json")
    made.save_pretrained(d)
    for extra in os.listdir(d):
        if extra not in ("tokenizer.json", "tokenizer_config.json"):
            os.remove(os.path.join(d, extra))
    yield "clip_json", CLIPTokenizer.from_pretrained(d), 40


def train_spiece(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_writer=model, model_type="unigram", pad_id=0, eos_id=1,
                                             unk_id=2, bos_id=-1, hard_vocab_limit=False, num_threads=1, minloglevel=2, **options)
    proto = spm_pb.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto


def t5_config(extra_first):
    extra = {str(extra_first + i): token(f"<extra_id_{99 - i}>", lstrip=True, rstrip=True) for i in range(100)}
    return {"added_tokens_decoder": dict({"0": token("<pad>"), "1": token("</s>"), "2": token("<unk>")}, **extra),
            "additional_special_tokens": [f"<extra_id_{i}>" for i in range(100)], "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
            "extra_ids": 100, "legacy": True, "add_prefix_space": True, "model_max_length": 512, "tokenizer_class": "T5Tokenizer"}


def t5_folders():
    proto = train_spiece(vocab_size=900, character_coverage=0.99, normalization_rule_name="nmt_nfkc")
    d = folder("t5_spiece")
    with open(d + "/spiece.model", "wb") as f:
        f.write(proto.SerializeToString())
    write_json(d + "/tokenizer_config.json", t5_config(len(proto.pieces)))
    yield "t5_spiece", T5Tokenizer.from_pretrained(d), 512

    # What transformers 5 saves of it.
    with open("/tmp/tok_t5_plain.model", "wb") as f:
        f.write(proto.SerializeToString())
    plain = folder("t5_plain_tmp")
    shutil.move("/tmp/tok_t5_plain.model", plain + "/spiece.model")
    d = folder("t5_json")
    T5Tokenizer.from_pretrained(plain).save_pretrained(d)
    shutil.rmtree(plain)
    for extra in os.listdir(d):
        if extra not in ("tokenizer.json", "tokenizer_config.json"):
            os.remove(os.path.join(d, extra))
    yield "t5_json", T5Tokenizer.from_pretrained(d), 32

    # The pipeline of older conversions (FLUX.1's tokenizer_2), with byte fall-back; another character map.
    proto = train_spiece(vocab_size=900, character_coverage=0.985, byte_fallback=True, normalization_rule_name="nfkc")
    d = folder("t5_bytes")
    vocab = [(p.piece, p.score) for p in proto.pieces]
    t = Tokenizer(models.Unigram(vocab, unk_id=2, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
                                         normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")])
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    t.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    t.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)])
    t.add_special_tokens([AddedToken(x, normalized=False, special=True) for x in ("<pad>", "</s>", "<unk>")])
    t.add_tokens([AddedToken("<sks>", normalized=False, rstrip=True), AddedToken("ohwx", single_word=True), AddedToken("Ｚｗｘ-style", lstrip=True)])
    t.save(d + "/tokenizer.json", pretty=False)
    yield "t5_bytes", PreTrainedTokenizerFast(tokenizer_file=d + "/tokenizer.json", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"), 24

    # No character map, user-defined pieces, few extra ids, side file of the old kind.
    proto = train_spiece(vocab_size=500, character_coverage=0.98, normalization_rule_name="identity", user_defined_symbols=["<sks>", "ohwx"])
    d = folder("t5_identity")
    with open(d + "/spiece.model", "wb") as f:
        f.write(proto.SerializeToString())
    write_json(d + "/tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 10})
    write_json(d + "/special_tokens_map.json", {"pad_token": "<pad>", "eos_token": {"content": "</s>", "rstrip": True, "lstrip": False, "normalized": False, "single_word": False}})
    yield "t5_identity", T5Tokenizer.from_pretrained(d), 32

    # The newer prefix scheme, old-style fields, no template.
    t = json.load(open(OUT + "/t5_bytes/tokenizer.json", encoding="utf-8"))
    t["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"},
                       {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Strip", "strip_left": True, "strip_right": True},
                       {"type": "Replace", "pattern": {"String": "--"}, "content": "—"}]}
    t["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    d = folder("t5_first")
    write_json(d + "/tokenizer.json", t)
    yield "t5_first", PreTrainedTokenizerFast(tokenizer_file=d + "/tokenizer.json", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"), 24


def escape(b):
    return b"".join(b"\\x%02X" % c if c < 32 or c in (92, 127) else bytes([c]) for c in b)


def main():
    os.makedirs(OUT, exist_ok=True)
    texts = strings()
    with open(OUT + "/strings.txt", "wb") as f:
        f.write(b"".join(escape(t) + b"\n" for t in texts))
    for name, tok, most in [*clip_folders(), *t5_folders()]:
        with open(f"{OUT}/{name}.ids", "w") as f:
            f.write(f"{most} {tok.pad_token_id}\n")
            for t in texts:
                t = t.decode("utf-8", "replace")
                ids = tok(t, padding="max_length", truncation=True, max_length=most)
                whole = tok(t)["input_ids"]
                used = sum(ids["attention_mask"])
                assert all(i == tok.pad_token_id for i in ids["input_ids"][used:]) and len(ids["input_ids"]) == most
                f.write(("t " if len(whole) > most else "- ") + "".join("%03x" % i for i in ids["input_ids"][:used]) + "\n")
        print(name, len(texts), "strings")


main()
