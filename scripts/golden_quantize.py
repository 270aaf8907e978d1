#!/usr/bin/env python3
"""Makes testdata/quantize: what llama.cpp's quantiser does, for ours to be held against.

Needs what scripts/golden_models.py needs.

`source-f16.gguf` is a one-layer llama, `source.expected` its f32 forward pass by transformers (the format is that of
testdata/golden-models). `divergence.json` holds, for each type, the mean KL divergence from it of the model that
llama.cpp quantised with every matrix in that type, computed by the same f32 forward pass over the dequantised weights.
`mixes.json` holds the type that llama.cpp gives each tensor of some small files of several shapes, for each mix.

    scripts/golden_quantize.py
"""

import ctypes
import json
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

import golden_models as golden

OUT = Path(__file__).resolve().parent.parent / "testdata" / "quantize"
FILE_TYPES = {
    "F32": "ALL_F32", "F16": "MOSTLY_F16", "BF16": "MOSTLY_BF16", "Q8_0": "MOSTLY_Q8_0", "Q6_K": "MOSTLY_Q6_K",
    "Q5_K_M": "MOSTLY_Q5_K_M", "Q5_K_S": "MOSTLY_Q5_K_S", "Q5_1": "MOSTLY_Q5_1", "Q5_0": "MOSTLY_Q5_0",
    "Q4_K_M": "MOSTLY_Q4_K_M", "Q4_K_S": "MOSTLY_Q4_K_S", "Q4_1": "MOSTLY_Q4_1", "Q4_0": "MOSTLY_Q4_0",
}
# (architecture, layers, n_embd, n_ff, heads, key/value heads, tied output, names of the attention's inputs)
SEPARATE, FUSED = ("attn_q", "attn_k", "attn_v"), ("attn_qkv",)
MIXES = {
    "llama-tied": ("llama", 12, 256, 512, 4, 2, True, SEPARATE),
    "llama-untied": ("llama", 9, 256, 512, 4, 4, False, SEPARATE),
    "qwen2-short-rows": ("qwen2", 24, 320, 512, 5, 1, False, SEPARATE),
    "odd-rows": ("llama", 3, 48, 80, 2, 1, False, SEPARATE),
    "phi3-fused": ("phi3", 10, 256, 256, 4, 4, False, FUSED),
    "llama-70b": ("llama", 80, 256, 256, 4, 2, False, SEPARATE),
}


def make_divergence():
    model = golden.build(golden.QUANT)
    golden.fill(model, "quant", rounded=False)
    source = OUT / "source-f16.gguf"
    golden.write_gguf(source, model, golden.QUANT, "f16")
    golden.load_gguf(source, model, golden.QUANT)
    (_, n_tokens, max_seq_len), = golden.QUANT.runs
    tokens = golden.tokens_for("quant", n_tokens, model.config.vocab_size)
    expected = golden.reference(model, tokens)
    golden.write_expected(OUT / "source.expected", tokens, expected, max_seq_len)
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        for ty in golden.QUANT_TYPES:
            path = Path(folder) / f"{ty}.gguf"
            golden.quantize(source, path, ty)
            golden.load_gguf(path, model, golden.QUANT)
            report[ty] = golden.mean_kl(expected, golden.reference(model, tokens))
            print(f"{ty}: mean KL divergence {report[ty]:.3e}")
    (OUT / "divergence.json").write_text(json.dumps(report, indent=1) + "\n")


def write_shape(path, arch, n_layers, n_embd, n_ff, n_heads, n_kv_heads, tied, inputs):
    """A file of zeros; returns its tensors as (name, sizes in ggml's order)."""
    writer = gguf.GGUFWriter(path, arch)
    for key, value in {
        "vocab_size": 32, "context_length": 64, "embedding_length": n_embd, "block_count": n_layers,
        "feed_forward_length": n_ff, "attention.head_count": n_heads, "attention.head_count_kv": n_kv_heads,
        "rope.dimension_count": n_embd // n_heads,
    }.items():
        writer.add_uint32(f"{arch}.{key}", value)
    writer.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_tokenizer_model("none")
    kv = n_embd // n_heads * n_kv_heads
    rows = {"attn_q": n_embd, "attn_k": kv, "attn_v": kv, "attn_qkv": n_embd + 2 * kv}
    shapes = {"token_embd.weight": (32, n_embd), "output_norm.weight": (n_embd,)}
    if not tied:
        shapes["output.weight"] = (32, n_embd)
    for i in range(n_layers):
        layer = {name: (rows[name], n_embd) for name in inputs}
        layer |= {
            "attn_norm": (n_embd,), "attn_output": (n_embd, n_embd), "ffn_norm": (n_embd,),
            "ffn_up": (n_ff, n_embd), "ffn_down": (n_embd, n_ff),
        }
        if inputs == SEPARATE:
            layer["ffn_gate"] = (n_ff, n_embd)
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in layer.items()}
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [[name, list(reversed(shape))] for name, shape in shapes.items()]


def types_by_llama_cpp(source, target, file_type):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, "LLAMA_FTYPE_" + FILE_TYPES[file_type])
    params.nthread = 2
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    assert status == 0, f"llama.cpp does not quantise {source.name} to {file_type}"
    return {t.name: t.tensor_type.name for t in gguf.GGUFReader(target).tensors}


def make_mixes():
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in MIXES.items():
            source = Path(folder) / f"{name}.gguf"
            tensors = write_shape(source, *shape)
            case = {
                "arch": shape[0], "block_count": shape[1], "head_count": shape[4], "head_count_kv": shape[5],
                "tensors": tensors, "types": {},
            }
            # The many layers matter to the K mixes only.
            for file_type in FILE_TYPES if name != "llama-70b" else ["Q4_K_M", "Q4_K_S", "Q5_K_M"]:
                found = types_by_llama_cpp(source, Path(folder) / "out.gguf", file_type)
                case["types"][file_type] = " ".join(found[name] for name, _ in tensors)
            cases[name] = case
            print(f"{name}: {len(tensors)} tensors")
    lines = [f" {json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    (OUT / "mixes.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    log_off = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(log_off, None)
    make_divergence()
    make_mixes()


if __name__ == "__main__":
    main()
