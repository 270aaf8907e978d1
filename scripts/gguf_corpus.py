#!/usr/bin/env python3
"""Makes testdata/gguf/corpus: small GGUF files by hand, sound (`ok-*`) and hostile (`bad-*`).

Standard library only. The test `crates/weights/tests/corpus.rs` replays every file; the fuzz target starts from them.
"""

import struct
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "testdata" / "gguf" / "corpus"

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", I64: "<q",
           F64: "<d"}


def u32(n):
    return struct.pack("<I", n)


def u64(n):
    return struct.pack("<Q", n)


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return u64(len(data)) + data


def value(ty, content):
    if ty == STRING:
        return string(content)
    if ty == ARRAY:
        item_type, items = content
        return u32(item_type) + u64(len(items)) + b"".join(value(item_type, item) for item in items)
    return struct.pack(FORMATS[ty], content)


def key(name, ty, content):
    return string(name) + u32(ty) + value(ty, content)


def tensor(name, dims, ty=0, offset=0):
    return string(name) + u32(len(dims)) + b"".join(map(u64, dims)) + u32(ty) + u64(offset)


def header(n_tensors, n_keys, version=3):
    return b"GGUF" + u32(version) + u64(n_tensors) + u64(n_keys)


def padded(data, alignment=32):
    return data + bytes(-len(data) % alignment)


def model(arch="llama", keys=None, tensors=None, version=3, alignment=32):
    """A whole one-layer model; `keys` and `tensors` replace or add, `None` takes away."""
    all_keys = {
        "general.architecture": (STRING, arch),
        f"{arch}.context_length": (U32, 64), f"{arch}.embedding_length": (U32, 8), f"{arch}.block_count": (U32, 1),
        f"{arch}.feed_forward_length": (U32, 8), f"{arch}.attention.head_count": (U32, 2),
        f"{arch}.attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "tokenizer.ggml.model": (STRING, "gpt2"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, ["a", "b", "", b"\xff"])),
        "tokenizer.ggml.token_type": (ARRAY, (I32, [1, 1, 1, 3])),
        "tokenizer.ggml.merges": (ARRAY, (STRING, ["a b"])),
    } | (keys or {})
    all_keys = {name: content for name, content in all_keys.items() if content is not None}
    shapes = {"token_embd.weight": [8, 4], "output_norm.weight": [8]}
    for name in ("attn_norm", "ffn_norm"):
        shapes[f"blk.0.{name}.weight"] = [8]
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        shapes[f"blk.0.{name}.weight"] = [8, 8]
    shapes |= tensors or {}
    shapes = {name: dims for name, dims in shapes.items() if dims is not None}
    table, data = b"", b""
    for name, dims in shapes.items():
        n = 4
        for dim in dims:
            n *= dim
        table += tensor(name, dims, 0, len(data))
        data = padded(data + struct.pack("<f", 0.5) * (n // 4), alignment)
    metadata = b"".join(key(name, *content) for name, content in all_keys.items())
    return padded(header(len(shapes), len(all_keys), version) + metadata + table, alignment) + data


def seeds():
    whole = model()
    yield "ok-llama", whole
    yield "ok-llama-version-2", model(version=2)
    yield "ok-alignment-64", model(keys={"general.alignment": (U32, 64)}, alignment=64)
    yield "ok-rope-freqs", model(tensors={"rope_freqs.weight": [2]})
    yield "ok-longrope", model(tensors={"rope_factors_long.weight": [2], "rope_factors_short.weight": [2]})
    yield "ok-yarn", model(keys={"llama.rope.scaling.type": (STRING, "yarn"), "llama.rope.scaling.factor": (F32, 4.0)})
    yield "ok-kv-heads-per-layer", model(keys={"llama.attention.head_count_kv": (ARRAY, (U32, [2]))})
    every = [(U8, 1), (I8, -1), (U16, 1), (I16, -1), (U32, 1), (I32, -1), (F32, 1.5), (BOOL, 1), (STRING, b"\xff\n"),
             (U64, 1 << 63), (I64, -1), (F64, 1e300), (ARRAY, (U8, [1, 2])), (ARRAY, (F64, [])),
             (ARRAY, (BOOL, [0, 1]))]
    yield "ok-every-value-type", model(keys={f"x.{i}": content for i, content in enumerate(every)})
    yield "ok-key-not-utf8", model(keys={b"\xff\xfe": (U8, 1)})

    yield "bad-empty", b""
    yield "bad-magic-only", b"GGUF"
    yield "bad-html", b"<!DOCTYPE html><html><body>404</body></html>"
    yield "bad-safetensors", u64(64) + b'{"weight":{"dtype":"F32"}}'
    yield "bad-zip", b"PK\x03\x04" + bytes(60)
    yield "bad-big-endian", b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(64)
    yield "bad-version-1", header(0, 0, 1)
    yield "bad-version-77", header(0, 0, 77)
    yield "bad-cut-in-metadata", whole[:100]
    yield "bad-cut-in-tensor-table", whole[: whole.index(b"blk.0.attn_k")]
    yield "bad-cut-in-data", whole[:-40]
    yield "bad-huge-tensor-count", header(1 << 62, 0) + bytes(64)
    yield "bad-huge-metadata-count", header(0, 1 << 62) + bytes(64)
    yield "bad-many-tensors-few-bytes", header(100_000, 0) + bytes(64)
    yield "bad-huge-key", header(0, 1) + u64((1 << 64) - 1) + bytes(64)
    yield "bad-empty-key", header(0, 1) + string("") + u32(0) + bytes(64)
    yield "bad-huge-string", header(0, 1) + string("k") + u32(STRING) + u64((1 << 64) - 1) + bytes(64)
    yield "bad-huge-array", header(0, 1) + string("k") + u32(ARRAY) + u32(U64) + u64(1 << 61) + bytes(64)
    yield "bad-long-array-few-bytes", header(0, 1) + string("k") + u32(ARRAY) + u32(F64) + u64(1 << 26) + bytes(64)
    yield "bad-string-array-cut", header(0, 1) + string("k") + u32(ARRAY) + u32(STRING) + u64(1 << 25) + bytes(256)
    yield "bad-nested-array", header(0, 1) + string("k") + u32(ARRAY) + u32(ARRAY) + u64(1) + bytes(64)
    yield "bad-value-type", header(0, 1) + string("k") + u32(13) + bytes(64)
    yield "bad-boolean", header(0, 1) + string("k") + u32(BOOL) + b"\x02" + bytes(64)
    yield "bad-duplicate-key", header(0, 2) + key("k", U8, 1) + key("k", U8, 2) + bytes(64)
    yield "bad-alignment-zero", model(keys={"general.alignment": (U32, 0)})
    yield "bad-alignment-odd", model(keys={"general.alignment": (U32, 33)})
    yield "bad-alignment-huge", model(keys={"general.alignment": (U32, 1 << 31)})
    yield "bad-alignment-text", model(keys={"general.alignment": (STRING, "32")})

    def one(record):
        return padded(header(1, 0) + record) + bytes(64)

    yield "bad-dimensions-none", one(tensor("t", []))
    yield "bad-dimensions-five", one(tensor("t", [1, 1, 1, 1, 1]))
    yield "bad-dimension-zero", one(tensor("t", [4, 0]))
    yield "bad-size-overflow", one(tensor("t", [1 << 40, 1 << 40]))
    yield "bad-size-sign", one(tensor("t", [1 << 61]))
    yield "bad-row-not-blocks", one(tensor("t", [33], ty=2))
    yield "bad-tensor-type", one(tensor("t", [4], ty=1000))
    yield "bad-offset-unaligned", one(tensor("t", [4], offset=8))
    yield "bad-offset-overflow", one(tensor("t", [4], offset=(1 << 64) - 32))
    yield "bad-offset-outside", one(tensor("t", [4], offset=1 << 40))
    yield "bad-tensor-name-empty", one(tensor("", [4]))
    yield "bad-tensor-name-not-utf8", one(tensor(b"\xff\xfe", [4]))
    yield "bad-tensor-name-long", one(tensor("t" * 300, [4]))
    two = padded(header(2, 0) + tensor("t", [4]) + tensor("t", [4], offset=32)) + bytes(64)
    yield "bad-duplicate-tensor", two
    yield "bad-overlap", padded(header(2, 0) + tensor("a", [16]) + tensor("b", [4], offset=32)) + bytes(64)

    yield "bad-no-architecture", model(keys={"general.architecture": None})
    yield "bad-architecture-unknown", model(keys={"general.architecture": (STRING, "mamba")})
    yield "bad-architecture-hostile", model(keys={"general.architecture": (STRING, b"\x1b[31m\n" * 1000)})
    yield "bad-architecture-number", model(keys={"general.architecture": (U32, 7)})
    yield "bad-layers-zero", model(keys={"llama.block_count": (U32, 0)})
    yield "bad-layers-huge", model(keys={"llama.block_count": (U32, 0xFFFFFFFF)})
    yield "bad-layers-text", model(keys={"llama.block_count": (STRING, "one")})
    yield "bad-heads-do-not-divide", model(keys={"llama.attention.head_count": (U32, 3)})
    yield "bad-kv-heads-do-not-divide", model(keys={"llama.attention.head_count_kv": (U32, 4)})
    yield "bad-head-size-huge", model(keys={"llama.attention.key_length": (U32, 0x7FFFFFFF)})
    yield "bad-rope-base-nan", model(keys={"llama.rope.freq_base": (F32, float("nan"))})
    yield "bad-rope-odd", model(keys={"llama.rope.dimension_count": (U32, 3)})
    yield "bad-rope-type", model(keys={"llama.rope.scaling.type": (STRING, "spiral")})
    yield "bad-rope-type-hostile", model(keys={"llama.rope.scaling.type": (STRING, "\x00\x1b[31m\nspiral" * 100)})
    yield "bad-longrope-without-factors", model(keys={"llama.rope.scaling.type": (STRING, "longrope")})
    yield "bad-experts", model(keys={"llama.expert_count": (U32, 8)})
    yield "bad-vocabulary-lists", model(keys={"tokenizer.ggml.token_type": (ARRAY, (I32, [1]))})
    yield "bad-vocabulary-size", model(keys={"tokenizer.ggml.tokens": (ARRAY, (STRING, ["a", "b", "c", "d", "e"])),
                                             "tokenizer.ggml.token_type": None})
    yield "bad-tensor-missing", model(tensors={"blk.0.attn_k.weight": None})
    yield "bad-tensor-shape", model(tensors={"blk.0.attn_k.weight": [8, 4]})
    yield "bad-tensor-unexpected", model(tensors={"blk.0.ffn_gate_inp.weight": [8, 2]})
    yield "bad-gemma3-pattern-length", model("gemma3", keys={
        "gemma3.attention.sliding_window": (U32, 4), "gemma3.attention.sliding_window_pattern": (ARRAY, (BOOL, [1, 0])),
    })
    yield "bad-granite-logit-scale", model("granite")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    for name, data in seeds():
        (OUT / f"{name}.gguf").write_bytes(data)
    print(f"{OUT}: {len(list(OUT.iterdir()))} files, {sum(p.stat().st_size for p in OUT.iterdir())} bytes")


if __name__ == "__main__":
    main()
