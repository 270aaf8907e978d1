#!/usr/bin/env python3
"""Records llama.cpp's perplexity on testdata/perplexity/text.txt, token by token, for the models of the tests.

Needs llama-cpp-python==0.3.36 and what scripts/golden_models.py needs.

    scripts/golden_perplexity.py NAME=FILE.gguf...     e.g. smollm2-135m=~/models/smollm2-135m.gguf

The text is one context: BOS where the model wants it, then every token of the text, special tokens as plain text.
The record holds the token ids, so that it depends on no tokenizer but llama.cpp's.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import llama_cpp
import numpy as np

from golden_models import peer

FOLDER = Path(__file__).resolve().parent.parent / "testdata" / "perplexity"


def tokenize(path, text):
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    vocab = llama_cpp.llama_model_get_vocab(model)
    room = len(text) + 8
    ids = (llama_cpp.llama_token * room)()
    n = llama_cpp.llama_tokenize(vocab, text, len(text), ids, room, True, False)
    assert n > 0
    llama_cpp.llama_model_free(model)
    return list(ids[:n])


def bos(path):
    """The token that a window begins with, where the model wants one."""
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    vocab = llama_cpp.llama_model_get_vocab(model)
    token = llama_cpp.llama_vocab_bos(vocab) if llama_cpp.llama_vocab_get_add_bos(vocab) else None
    llama_cpp.llama_model_free(model)
    return token


def in_windows(path, tokens, n_ctx):
    """Perplexity by llama-perplexity's rule: windows, of each the second half."""
    first, surprises = bos(path), []
    for start in range(0, len(tokens) - n_ctx + 1, n_ctx):
        window = tokens[start:start + n_ctx]
        given = window if first is None else [first] + window[1:]
        log_probs = peer(path, given, max(n_ctx, 256), llama_cpp.GGML_TYPE_F16)
        places = np.arange(n_ctx // 2, n_ctx - 1)
        surprises.append(-log_probs[places, np.array(window)[places + 1]].astype(np.float64))
    surprises = np.concatenate(surprises)
    value = math.exp(surprises.mean())
    error = value * math.sqrt(surprises.var() / (len(surprises) - 1))
    return {"n_ctx": n_ctx, "n_windows": len(tokens) // n_ctx, "perplexity": round(value, 6), "error": round(error, 6)}


def main(pairs):
    log_off = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(log_off, None)
    text = (FOLDER / "text.txt").read_bytes()
    for name, file in (pair.split("=", 1) for pair in pairs):
        path = Path(file).expanduser()
        tokens = tokenize(path, text)
        n_ctx = math.ceil((len(tokens) + 1) / 256) * 256
        log_probs = peer(path, tokens, n_ctx, llama_cpp.GGML_TYPE_F16)
        chosen = log_probs[np.arange(len(tokens) - 1), tokens[1:]].astype(np.float64)
        record = {
            "made_by": "scripts/golden_perplexity.py",
            "llama_cpp_python": llama_cpp.__version__,
            "model": name,
            "model_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "text_sha256": hashlib.sha256(text).hexdigest(),
            "n_ctx": n_ctx,
            "n_tokens": len(tokens),
            "perplexity": round(math.exp(-chosen.mean()), 6),
            "windows": in_windows(path, tokens, 128),
            "tokens": tokens,
            "log_probs": [round(float(x), 5) for x in chosen],
        }
        out = FOLDER / f"{name}.json"
        lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items()]
        out.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{name}: {len(tokens)} tokens, perplexity {record['perplexity']}")


if __name__ == "__main__":
    main(sys.argv[1:])
