#!/usr/bin/env python3
"""Trains small vocabularies and writes the ids that the reference implementations give for hard texts.

    python scripts/golden_tokenizers.py [NAME…]
    python scripts/golden_tokenizers.py MODEL.gguf…

Writes testdata/tokenizers/texts.json and one NAME.json for each pre-tokenizer (trained and encoded by `tokenizers`)
and each SentencePiece style (trained and encoded by `sentencepiece`). Of a model's file (read by the package `gguf`)
it writes real-MODEL.json, the ids without the vocabulary. testdata/tokenizers/README.md says which versions wrote the
committed files.
"""

import io
import json
import pathlib
import random
import sys
import unicodedata

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Punctuation, Sequence, Split

OUT = pathlib.Path(__file__).parent.parent / "testdata/tokenizers"

TRAINING = (OUT / "training.txt").read_bytes().decode()

NASTY = [
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\t\t", "\r\n", "\r\n\r\n", " \n", "\n ", " \n \n", "\t\n", "\r", "\r\r\n",
    "a", " a", "  a", "   a", "a ", "a  ", "a   ", " a ", "  a  b   c    d     e", "a\nb", "a\n\nb", "a \n b", "a\n \nb", "\n \n\n  \n\n\n   x",
    "Hello world", "Hello, world!", " Hello world", "Hello  world", "hello WORLD HelloWorld helloWorld HTTPServerError iOS",
    "I'm you're he's we'll they'd I've can't DON'T I'M YOU'LL 'S 's 'sx ''s x's 'ſ 'ſx 'RE 're' 'r 'v 'l",
    "don’t ’s", "'", "''", "'''", "' s", "it's'nt",
    "0", "1", "12", "123", "1234", "12345", "123456", "1234567", "12345678901234567890", " 1", " 12", " 1234", "1a2b33c444", "3.14", "1,000,000", "½²³", "٣٤٥٦٧", "１２３４５", "Ⅷ Ⅸ", "a1", "1a", "$100", "100%", "2024-02-29T13:05:09Z",
    "...", "....", "?!?!", "!!!\n", "!!!\n\n\nx", "...\r\n...", "foo.\n\nbar", "a/b", "a//\n//b", "/\n", "!/\n/", "---\n---", "#\t#", "(((", "a(b)c[d]e{f}", "<html>\n<body class=\"x\">&amp;</body>", "\\n\\t", "`code` ```block```", "«quoted» “x” ‘y’", "a_b-c.d", "!a", "!abc", ".abc .ABC _abc", "@user #tag", "|a|b|", "^_^ ~~ ==",
    "你好", "你好世界", "你好，世界！", " 你好", "中文 English 混合 text", "中文123中文", "今天天气很好，我们去公园散步吧。", "。。。", "《书》", "「カギ」", "　全角　空白　", "ＦＵＬＬＷＩＤＴＨ",
    "こんにちは世界", "カタカナ", "漢字かな交じり文", "안녕하세요", "한국어 문장입니다.", "ᄒ\u1161\u11ab", "각",
    "Привет, мир!", "Это проверка", "Γειά σου", "ΑΒΓαβγ", "مرحبا بالعالم، كيف", "שלום עולם", "नमस्ते दुनिया।", "สวัสดีชาวโลก", "የኢትዮጵያ", "ქართული", "Հայերեն", "ᏣᎳᎩ ꮳꮃꭹ", "𐐀𐐨 𞤀𞤢",
    "café", "cafe\u0301", "e\u0301e\u0301 \u0301", "\u0301a", "a\u0301\u0302\u0303b", "ñ n\u0303", "Å Å A\u030a", "ﬁ ﬂ", "ǅ Ǆ ǆ ŉ ĳ", "ʰʲ ªº", "İı", "ẞß", "n\u0303o\u0308 1\u0301 !\u0301 \u0301\u0301",
    "😀", "😀😃", "👩‍🚀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇨🇳🇺🇸", "❤️", "a😀b", "😀 a", " 😀", "😶‍🌫️", "\u200d", "a\u200db", "\u200b\u200e\u202e", "\ufe0f", "\ufeff", "\u00ad",
    "\x00", "a\x00b", "\x01\x02\x03", "\x1b[31mred\x1b[0m", "\x7f", "\x85", "a\x85b", "\x1c\x1d\x1e\x1f", "\x0b\x0c", "\xa0", "a\xa0b", " \xa0 ", "\u2028\u2029", "\u3000", "\u1680\u2000\u2003 x", "\u180e",
    "\ue000\uf8ff", "\U000f0000", "\U0010ffff", "\ufffd", "\ufffe", "\u0378", "\U000e0041",
    " " * 10, " " * 64, " " * 100 + "x", "x" + " " * 100, "\n" * 50, "\t" * 33, " \n" * 20, "a" * 200, "ab" * 100, "1" * 100, "!" * 100, "中" * 100, "😀" * 30, "a " * 50, " a" * 50, "\u0301" * 50,
    "<|endoftext|>", "<|im_start|>user\nHi<|im_end|>\n", "a<|im_end|>b", "<|im_end|><|im_end|>", "<|im_end", "|im_end|>", "<|im_<|im_end|>end|>", " <|im_end|> x", "<tool_call>x</tool_call>", "a <tool_call> b", "<tool_call", "<s>", "</s>", "<unk>", "<0x41>", "<0xE4><0xB8>", "[INST] x [/INST]",
    "▁", "▁▁", "a▁b", " ▁ ", "▁a", "Ġ", "ĠaĊ", "Ġthe", "âĢĻ", "##ing", "@@",
    "def f(x):\n    return x  # comment\n\n\n\tif True:\n\t\tpass", "{\"a\": [1, 2.5, null], \"b\": \"\\u00e9\"}", "SELECT * FROM t WHERE a='b';", "x=1;y=2;\r\nz=x+y;", "https://example.com/a?b=c&d=e#f", "C:\\Users\\x", "$x^2 + y_1$ \\frac{a}{b}", "| a | b |\n|---|---|\n", "日本語とEnglishと123の混在、テスト。",
    "The quick brown fox jumps over the lazy dog." * 3, "Hello, y'all! How are you 😁 ?我想在apple工作1314151天～",
]

# Bytes that are no UTF-8: only SentencePiece takes them; byte-level BPE must give them back.
BAD_BYTES = [b"\xff", b"a\xffb", b"\xe4\xb8", b"\xe4\xb8 x", b"\x80\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", "中".encode() + b"\xe4" + "中".encode(), b"\xf0\x9f\x98 a"]


def soup(seed):
    """Text of assigned characters from everywhere, in runs, with spaces between some."""
    rng = random.Random(seed)
    blocks = [(0x20, 0x7F), (0xA0, 0x250), (0x250, 0x370), (0x370, 0x590), (0x590, 0x900), (0x900, 0xE00), (0xE00, 0x1200), (0x1E00, 0x2000), (0x2000, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x9FA5), (0xA640, 0xA800), (0xAC00, 0xD7A3), (0xFB00, 0xFE00), (0xFF00, 0xFFF0), (0x10400, 0x10450), (0x1D400, 0x1D800), (0x1F300, 0x1F700)]
    out = []
    while len(out) < 40:
        low, high = rng.choice(blocks)
        for _ in range(rng.randint(1, 5)):
            char = chr(rng.randrange(low, high))
            if unicodedata.category(char) not in ("Cn", "Cs"):
                out.append(char)
        out.extend(rng.choice(["", "", " ", "  ", "\n", "'s", "1", "\t"]))
    return "".join(out)


TEXTS = NASTY + [soup(seed) for seed in range(24)]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+SUFFIX|" + r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + r"*SUFFIX|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = CASED.replace("SUFFIX", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?").replace("DIGITS", "{1,3}")
TEKKEN = CASED.replace("SUFFIX", "").replace("DIGITS", "")
DEEPSEEK3 = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
CASED_LETTERS = (
    "["
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a"
    "-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b"
    "-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0"
    "-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a"
    "-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb"
    "-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00"
    "-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb"
    "\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
    "]+"
)
CJK = "[一-龥ࠀ-一가-퟿]+"


def split(*patterns):
    return Sequence([*(Split(Regex(p), "isolated") for p in patterns), ByteLevel(False, use_regex=False)])


# name in tokenizer.ggml.pre → (pre-tokenizer, normalizer, ignore_merges)
BPE = {
    "gpt-2": (ByteLevel(False), None, False),
    "olmo": (ByteLevel(False), normalizers.NFC(), False),
    "smollm": (Sequence([Digits(True), ByteLevel(False)]), None, False),
    "command-r": (Sequence([Digits(True), ByteLevel(False)]), normalizers.NFC(), False),
    "llama-bpe": (split(LLAMA3), None, True),
    "dbrx": (split(LLAMA3), None, False),
    "qwen2": (split(QWEN2), normalizers.NFC(), False),
    "deepseek-r1-qwen": (split(QWEN2), None, False),
    "qwen35": (split(QWEN35), normalizers.NFC(), False),
    "gpt-4o": (split(GPT4O), None, False),
    "tekken": (split(TEKKEN), None, True),
    "deepseek-llm": (Sequence([Split(Regex("[\r\n]"), "isolated"), Split(Regex(r"\s?" + CASED_LETTERS), "isolated"), Split(Regex(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), "isolated"), Split(Regex(r"\s+$"), "isolated"), Split(Regex(CJK), "isolated"), Split(Regex(r"\p{N}+"), "isolated"), ByteLevel(False, use_regex=False)]), None, False),
    "deepseek-coder": (split("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"), None, False),
    "deepseek-v3": (split(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3), None, False),
    "falcon": (Sequence([Punctuation("contiguous"), ByteLevel(False), Split(Regex("[0-9][0-9][0-9]"), "isolated")]), None, False),
    "bloom": (split(" ?[^(\\s|[.,!?…。，、।۔،])]+"), None, False),
    "viking": (split(" ?[^(\\s|[.,!?…。，、।۔،])]+", r"\p{N}"), None, False),
    "seed-coder": (split(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"), None, False),
    "minicpm5": (split(r"\p{N}{1,3}", LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}+")), None, True),
    "default": (split(r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"), None, False),
}

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ADDED = ["<tool_call>", "    "]
KIND = {"normal": 1, "unknown": 2, "control": 3, "user_defined": 4, "unused": 5, "byte": 6}


def bpe(name):
    pre_tokenizer, normalizer, ignore_merges = BPE[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False, initial_alphabet=ByteLevel.alphabet())
    tokenizer.train_from_iterator([TRAINING], trainer)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ADDED])
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    vocabulary = {
        "kind": "bpe",
        "pre": name,
        "tokens": tokens,
        "kinds": [KIND["control"] if t in SPECIAL else KIND["user_defined"] if t in ADDED else KIND["normal"] for t in tokens],
        "merges": [m if isinstance(m, str) else " ".join(m) for m in model["merges"]],
        "eos": tokens.index("<|endoftext|>"),
    }
    return {"reference": "tokenizers", "vocabulary": vocabulary, "cases": bpe_cases(tokenizer, SPECIAL)}


SPM = {
    # Llama 2: a space before the text, bytes for what is no piece, digits alone.
    "spm-llama": dict(add_dummy_prefix=True, byte_fallback=True, split_digits=True, user_defined_symbols=["<tool_call>"]),
    # Gemma: no space before the text, runs of spaces and line ends as added words.
    "spm-gemma": dict(add_dummy_prefix=False, byte_fallback=True, split_digits=True, user_defined_symbols=["\n\n", "\n\n\n", "▁▁", "▁▁▁▁", "<tool_call>", "[@TAG@]"], control_symbols=["<start_of_turn>", "<end_of_turn>"]),
    # No bytes: what is no piece is unknown; pieces may reach across spaces.
    "spm-plain": dict(add_dummy_prefix=True, byte_fallback=False, split_by_whitespace=False),
}


def spm(name):
    options = SPM[name]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING.splitlines()), model_writer=model, model_type="bpe", vocab_size=1100,
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        character_coverage=0.98, num_threads=1, minloglevel=2, **options,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(processor.vocab_size())

    def kind(i):
        if processor.is_unknown(i):
            return KIND["unknown"]
        if processor.is_control(i):
            return KIND["control"]
        if processor.is_byte(i):
            return KIND["byte"]
        if processor.is_unused(i):
            return KIND["unused"]
        return KIND["user_defined"] if processor.id_to_piece(i) in options.get("user_defined_symbols", []) else KIND["normal"]

    vocabulary = {
        "kind": "spm",
        "tokens": [processor.id_to_piece(i) for i in ids],
        "kinds": [kind(i) for i in ids],
        "scores": [processor.get_score(i) for i in ids],
        "bos": processor.bos_id(),
        "eos": processor.eos_id(),
        "unk": processor.unk_id(),
        "add_space_prefix": options["add_dummy_prefix"],
    }
    plain = {"specials": "text", "ids": [processor.encode(text) for text in TEXTS]}
    bad = {"specials": "text", "bad_bytes": True, "ids": [processor.encode(text) for text in BAD_BYTES]}
    with_bos = {"specials": "text", "with_bos": True, "ids": [processor.encode(text, add_bos=True) for text in TEXTS[:40]]}
    return {"reference": "sentencepiece", "vocabulary": vocabulary, "cases": [plain, bad, with_bos]}


def real(path):
    """The ids of a real model: its own tokens and merges, cut by the expressions above, in `tokenizers`."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    contents = lambda key: fields[f"tokenizer.ggml.{key}"].contents()
    assert contents("model") == "gpt2", "only byte-level BPE has its merges in the file"
    tokens, kinds = contents("tokens"), contents("token_type")
    pre_tokenizer, normalizer, ignore_merges = BPE[contents("pre")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in contents("merges")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    special = [token for token, kind in zip(tokens, kinds) if kind == KIND["control"]]
    added = [token for token, kind in zip(tokens, kinds) if kind == KIND["user_defined"]]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in added])
    assert tokenizer.get_vocab_size() == len(tokens), "a token of the file got another id"
    return {"reference": "tokenizers", "gguf": path.name, "cases": bpe_cases(tokenizer, special)}


def bpe_cases(tokenizer, special):
    """Every text with special tokens as text, and those that spell one with it parsed."""
    cases = []
    for specials in ("text", "parse"):
        tokenizer.encode_special_tokens = specials == "text"
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        if specials == "parse":
            ids = [parsed if any(s in text for s in special) else None for parsed, text in zip(ids, TEXTS)]
        cases.append({"specials": specials, "ids": ids})
    return cases


def write(name, data):
    (OUT / f"{name}.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    write("texts", {"texts": TEXTS, "bad_bytes": [list(text) for text in BAD_BYTES]})
    for name in sys.argv[1:] or [*BPE, *SPM]:
        if name.endswith(".gguf"):
            path = pathlib.Path(name)
            write(f"real-{path.stem}", real(path))
            continue
        data = bpe(name) if name in BPE else spm(name)
        write(name, data)
        print(name, len(data["vocabulary"]["tokens"]), "tokens")


if __name__ == "__main__":
    main()
