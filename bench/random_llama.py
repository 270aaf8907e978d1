#!/usr/bin/env python3
"""Writes a llama of Llama-3.2-1B's shape with random weights as F16: speed does not depend on the weights.

    bench/random_llama.py ~/.cache/daybreak/models/random-1b-f16.gguf
    for type in Q4_K_M Q5_K_M Q4_0 BF16; do
        daybreak quantize random-1b-f16.gguf random-1b-$type.gguf $type
    done

Needs gguf and numpy. The tokens are generated: all bytes, all pairs of bytes, and as many triples as the vocabulary
has room for, which is a byte-level BPE that any text can be cut with.
"""

import argparse
import math
from pathlib import Path

import gguf
import numpy as np

N_EMBD, N_LAYERS, N_HEADS, N_KV_HEADS, N_FF = 2048, 16, 32, 8, 8192
HEAD_DIM = N_EMBD // N_HEADS
N_TEXT_TOKENS, N_SPECIAL = 128_000, 256
BOS, EOS, EOT = 128_000, 128_001, 128_009
ROPE = dict(base=500_000.0, factor=32.0, low=1.0, high=4.0, trained=8192)
NAMED = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 6: "<|start_header_id|>", 7: "<|end_header_id|>", 9: "<|eot_id|>"}
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def byte_tokens():
    """GPT-2's character for each byte: itself where it can be printed, else one from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def vocabulary():
    """(tokens, merges): every token but the first 256 is one merge of two before it."""
    singles = byte_tokens()
    pairs = [(a, b) for a in singles for b in singles]
    n_triples = N_TEXT_TOKENS - len(singles) - len(pairs)
    triples = [(a + b, c) for (a, b), c in zip(pairs, np.resize(singles, n_triples))]
    merges = pairs + triples
    tokens = singles + [a + b for a, b in merges]
    assert len(set(tokens)) == len(tokens) == N_TEXT_TOKENS
    return tokens, [f"{a} {b}" for a, b in merges]


def rope_factors():
    """Llama 3's divisors of the angles: 1 for fast pairs, `factor` for slow ones, a ramp between."""
    out = []
    for i in range(HEAD_DIM // 2):
        wave = 2 * math.pi * ROPE["base"] ** (2 * i / HEAD_DIM)
        ramp = (ROPE["trained"] / wave - ROPE["low"]) / (ROPE["high"] - ROPE["low"])
        smooth = min(1.0, max(0.0, ramp))
        out.append(1 / ((1 - smooth) / ROPE["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def tensors():
    """(name, shape), outermost size first."""
    yield "rope_freqs.weight", (HEAD_DIM // 2,)
    yield "token_embd.weight", (N_TEXT_TOKENS + N_SPECIAL, N_EMBD)
    kv = N_KV_HEADS * HEAD_DIM
    for i in range(N_LAYERS):
        for name, shape in {
            "attn_norm": (N_EMBD,), "attn_q": (N_EMBD, N_EMBD), "attn_k": (kv, N_EMBD), "attn_v": (kv, N_EMBD),
            "attn_output": (N_EMBD, N_EMBD), "ffn_norm": (N_EMBD,), "ffn_gate": (N_FF, N_EMBD),
            "ffn_up": (N_FF, N_EMBD), "ffn_down": (N_EMBD, N_FF),
        }.items():
            yield f"blk.{i}.{name}.weight", shape
    yield "output_norm.weight", (N_EMBD,)


def values(name, shape, rng):
    if name == "rope_freqs.weight":
        return rope_factors()
    if len(shape) == 1:
        return np.ones(shape, dtype=np.float32)
    weights = rng.standard_normal(shape, dtype=np.float32)
    weights /= math.sqrt(shape[-1])
    return weights.astype(np.float16)


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("file", type=Path)
    path = args.parse_args().file.expanduser()
    partial = path.with_suffix(".gguf.part")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_name("random 1B")
    writer.add_context_length(131_072)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(N_LAYERS)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(ROPE["base"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(N_TEXT_TOKENS + N_SPECIAL)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    tokens, merges = vocabulary()
    special = [NAMED.get(i, f"<|reserved_{i}|>") for i in range(N_SPECIAL)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens + special)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.CONTROL] * N_SPECIAL)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOT)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)
    for name, shape in tensors():
        dtype = np.dtype(np.float32 if len(shape) == 1 else np.float16)
        writer.add_tensor_info(name, shape, dtype, math.prod(shape) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(1)
    for name, shape in tensors():
        writer.write_tensor_data(values(name, shape, rng))
    writer.close()
    partial.rename(path)
    print(f"{path}: {path.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
