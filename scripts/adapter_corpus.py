#!/usr/bin/env python3
"""Makes testdata/adapters/corpus: small LoRA adapters by hand, sound (`ok-*`) and hostile (`bad-*`).

Standard library only. The test `crates/weights/tests/corpus.rs` replays every file against a llama of one layer (n_embd
32, two heads of 16, one key and value head, n_ff 64, 10 tokens); the fuzz target starts from them.
"""

import struct

import gguf_corpus as gguf
from gguf_corpus import ARRAY, F32, STRING, U32

OUT = gguf.OUT.parent.parent / "adapters" / "corpus"
F32_TYPE, F16_TYPE, Q8_0_TYPE, Q2_K_TYPE = 0, 1, 8, 10
# Elements of a block, bytes of a block.
BLOCKS = {F32_TYPE: (1, 4), F16_TYPE: (1, 2), Q8_0_TYPE: (32, 34), Q2_K_TYPE: (256, 84)}
KEYS = {
    "general.architecture": (STRING, "llama"), "general.type": (STRING, "adapter"), "adapter.type": (STRING, "lora"),
    "adapter.lora.alpha": (F32, 8.0),
}
Q = {"blk.0.attn_q.weight.lora_a": [32, 4], "blk.0.attn_q.weight.lora_b": [4, 32]}


def adapter(keys=None, tensors=None, ty=F32_TYPE):
    """An adapter for queries; `keys` and `tensors` replace or add, `None` takes away."""
    keys = {name: content for name, content in (KEYS | (keys or {})).items() if content is not None}
    shapes = {name: dims for name, dims in (Q | (tensors or {})).items() if dims is not None}
    table, data = b"", b""
    for name, dims in shapes.items():
        n = 1
        for dim in dims:
            n *= dim
        table += gguf.tensor(name, dims, ty, len(data))
        data = gguf.padded(data + bytes(n // BLOCKS[ty][0] * BLOCKS[ty][1]))
    head = gguf.header(len(shapes), len(keys))
    head += b"".join(gguf.key(name, *content) for name, content in keys.items()) + table
    return gguf.padded(head) + data


def pair(name, n_in, n_out, rank=4):
    return {f"{name}.lora_a": [n_in, rank], f"{name}.lora_b": [rank, n_out]}


def seeds():
    yield "ok-queries", adapter()
    layer = [("attn_q", 32, 32), ("attn_k", 32, 16), ("attn_v", 32, 16), ("attn_output", 32, 32), ("ffn_gate", 32, 64),
             ("ffn_up", 32, 64), ("ffn_down", 64, 32)]
    every = {}
    for rank, (name, n_in, n_out) in enumerate(layer, 1):
        every |= pair(f"blk.0.{name}.weight", n_in, n_out, rank)
    ends = pair("output.weight", 32, 10) | {"token_embd.weight.lora_a": [4, 10], "token_embd.weight.lora_b": [4, 32]}
    yield "ok-every-matrix", adapter(tensors=every | ends)
    yield "ok-f16", adapter(ty=F16_TYPE)
    yield "ok-q8_0", adapter(tensors=pair("blk.0.attn_q.weight", 32, 32, 32), ty=Q8_0_TYPE)
    yield "ok-no-alpha", adapter(keys={"adapter.lora.alpha": None})
    yield "ok-fingerprint", adapter(keys={"daybreak.base.fingerprint": (STRING, b"\x1b[31m\n" * 50)})

    yield "bad-no-type", adapter(keys={"general.type": None})
    yield "bad-type", adapter(keys={"general.type": (STRING, "model")})
    yield "bad-type-number", adapter(keys={"general.type": (U32, 1)})
    yield "bad-adapter-type", adapter(keys={"adapter.type": (STRING, b"\x1b[31m\n" * 1000)})
    yield "bad-alpha-nan", adapter(keys={"adapter.lora.alpha": (F32, float("nan"))})
    yield "bad-alpha-text", adapter(keys={"adapter.lora.alpha": (STRING, "8")})
    yield "bad-activated", adapter(keys={"adapter.alora.invocation_tokens": (ARRAY, (U32, [1, 2]))})
    yield "bad-architecture", adapter(keys={"general.architecture": (STRING, b"\xff\n" * 500)})
    yield "bad-no-tensors", adapter(tensors={name: None for name in Q})
    yield "bad-half-a", adapter(tensors={"blk.0.attn_q.weight.lora_b": None})
    yield "bad-half-b", adapter(tensors={"blk.0.attn_q.weight.lora_a": None})
    yield "bad-suffix", adapter(tensors={"blk.0.attn_norm.weight": [32]})
    yield "bad-nameless", adapter(tensors={".lora_a": [32, 4], ".lora_b": [4, 32]})
    yield "bad-ranks-differ", adapter(tensors={"blk.0.attn_q.weight.lora_a": [32, 5]})
    yield "bad-rank-huge", adapter(tensors=pair("blk.0.attn_q.weight", 1, 1, 4097))
    yield "bad-three-sizes", adapter(tensors={"blk.0.attn_q.weight.lora_a": [32, 2, 2]})
    yield "bad-number-format", adapter(tensors=pair("blk.0.attn_q.weight", 256, 32, 256), ty=Q2_K_TYPE)
    yield "bad-turned", adapter(tensors=pair("blk.0.ffn_up.weight", 64, 32))
    yield "bad-layer", adapter(tensors=pair("blk.1.attn_q.weight", 32, 32))
    yield "bad-norm", adapter(tensors=pair("blk.0.attn_norm.weight", 32, 1, 1))
    yield "bad-cut", adapter()[:-8]
    yield "bad-overflow", gguf.padded(
        gguf.header(1, 0) + gguf.tensor("a.lora_a", [1 << 40, 1 << 40]) + struct.pack("<Q", 0))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    for name, data in seeds():
        (OUT / f"{name}.gguf").write_bytes(data)
    print(f"{OUT}: {len(list(OUT.iterdir()))} files, {sum(p.stat().st_size for p in OUT.iterdir())} bytes")


if __name__ == "__main__":
    main()
