"""One round of another trainer of vocabularies: SIDE TEXT VOCAB_SIZE, prints seconds and merges as one JSON object.

Both get the lines of the text, with the expression of Qwen2's pre-tokenizer.
"""

import json
import sys
import time

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def tokenizers(lines, vocab_size):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(WORDS), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    start = time.perf_counter()
    tokenizer.train_from_iterator(lines, trainer)
    seconds = time.perf_counter() - start
    return seconds, len(json.loads(tokenizer.to_str())["model"]["merges"])


def rustbpe(lines, vocab_size):
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    start = time.perf_counter()
    tokenizer.train_from_iterator(iter(lines), vocab_size, pattern=WORDS)
    seconds = time.perf_counter() - start
    return seconds, len(tokenizer.get_mergeable_ranks()) - 256


def main():
    side, path, vocab_size = sys.argv[1:]
    text = open(path, encoding="utf-8", newline="").read()
    lines = text.splitlines(keepends=True)
    seconds, merges = {"tokenizers": tokenizers, "rustbpe": rustbpe}[side](lines, int(vocab_size))
    print(json.dumps({"seconds": seconds, "merges": merges}))


if __name__ == "__main__":
    main()
