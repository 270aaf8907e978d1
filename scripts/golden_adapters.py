#!/usr/bin/env python3
"""Makes testdata/golden-adapters: random LoRA adapters for golden models, and the log-probabilities they must give.

Needs what scripts/golden_models.py needs (see testdata/golden-adapters/README.md), and peft==0.21.2.

Each base is one of testdata/golden-models, rebuilt here from its seed. `peft` puts a random adapter on every linear
layer (and on embeddings and output where they are matrices apart), computes in f32 what the model answers, and the
adapter is written with the names, permutations and shapes of llama.cpp's convert_lora_to_gguf.py. llama.cpp then runs
base and adapter and must agree, which proves the file right.

    scripts/golden_adapters.py [NAME...]      # all, or only these cases
"""

import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import peft
import torch
import transformers

import golden_models as bases

OUT = bases.OUT.parent / "golden-adapters"
ALPHA = 6.0
# Some ranks that are no whole vector of any instruction set, and one of 1.
RANKS = {"k_proj": 3, "down_proj": 7, "o_proj": 1, "lm_head": 5, "embed_tokens": 2}

LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Base, layers, the number format of the file.
CASES = {
    "llama": (LLAMA + ["lm_head", "embed_tokens"], "F32"),
    "qwen2": (LLAMA, "F16"),
    "qwen3": (LLAMA, "BF16"),
    "gemma3": (LLAMA, "F32"),
    "phi3": (["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], "F32"),
    "gpt2": (["c_attn", "c_proj", "c_fc"], "F32"),
    "granite": (LLAMA + ["embed_tokens"], "F32"),
}


def rounded(values, ty):
    values = values.astype(np.float32)
    if ty == "F32":
        return values
    quant = gguf.GGMLQuantizationType[ty]
    return gguf.quants.dequantize(gguf.quants.quantize(values, quant), quant)


def adapt(model, name, targets, ty):
    """The model with a random adapter, large enough that every answer changes."""
    config = peft.LoraConfig(
        r=4, lora_alpha=ALPHA, target_modules=targets, lora_dropout=0.0, rank_pattern=RANKS,
        fan_in_fan_out=name == "gpt2", task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(model, config).eval()
    rng = np.random.default_rng([bases.SEED, 7, *name.encode()])
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                gain = 0.25 if "lora_A" in key or "lora_embedding_B" in key else 0.1
                values = gain * rng.standard_normal(tuple(parameter.shape))
                parameter.copy_(torch.tensor(rounded(values, ty)))
    return model


def lora_tensors(model, case):
    """GGUF's name → f32 array, outermost size first."""
    halves = {}
    for key, parameter in model.named_parameters():
        if "lora_" not in key:
            continue
        stem, half = key.removeprefix("base_model.model.").split(".lora_")
        name = bases.gguf_name(f"{stem}.weight", case.arch)
        values = parameter.detach().numpy()
        if half.startswith("embedding_A"):
            values = values.T  # rows are looked up
        is_b = half.removeprefix("embedding_").startswith("B")
        if is_b and case.arch in bases.PERMUTED:
            if ".attn_q." in name:
                values = bases.permute(values, model.config.num_attention_heads)
            if ".attn_k." in name:
                values = bases.permute(values, model.config.num_key_value_heads)
        halves[f"{name}.lora_{'b' if is_b else 'a'}"] = np.ascontiguousarray(values)
    return halves


def write_adapter(path, name, tensors, case, ty):
    writer = gguf.GGUFWriter(path, case.arch)
    writer.add_type("adapter")
    writer.add_name(f"golden {name}")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    quant = gguf.GGMLQuantizationType[ty]
    for tensor, values in tensors.items():
        raw = values if ty == "F32" else gguf.quants.quantize(values, quant)
        writer.add_tensor(tensor, raw, raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def peer(base, adapter, tokens, n_ctx):
    """llama.cpp's log-probabilities with the adapter, [n_tokens, vocab_size]."""
    make = llama_cpp.llama_init_from_model

    def with_adapter(model, params):
        context = make(model, params)
        lora = llama_cpp.llama_adapter_lora_init(model, str(adapter).encode())
        assert lora, f"llama.cpp does not load {adapter}"
        loras = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora)
        scales = (llama_cpp.ctypes.c_float * 1)(1.0)
        assert llama_cpp.llama_set_adapters_lora(context, loras, 1, scales) == 0
        return context

    llama_cpp.llama_init_from_model = with_adapter
    try:
        return bases.peer(base, tokens, n_ctx, llama_cpp.GGML_TYPE_F32)
    finally:
        llama_cpp.llama_init_from_model = make


def make_case(name, targets, ty, report):
    case = bases.CASES[name]
    model = bases.build(case)
    bases.fill(model, name, rounded=len(case.types) > 1)
    (_, n_tokens, max_seq_len), = case.runs
    tokens = bases.tokens_for(f"adapted {name}", n_tokens, bases.VOCAB)
    plain = bases.reference(model, tokens)
    model = adapt(model, name, targets, ty)
    expected = bases.reference(model, tokens)
    changed = float(np.abs(expected - plain).mean())
    assert changed > 0.1, f"{name}: the adapter changes little ({changed})"
    tensors = lora_tensors(model, case)
    differences = {}
    # llama.cpp looks GELU up in a table of f16.
    tolerance = 0.03 if name in ("gemma3", "gpt2") else bases.PEER_TOLERANCE
    # The numbers are the same in F32; with 16 bits llama.cpp rounds activations, too.
    for form, path in (("F32", OUT / f"{name}.tmp.gguf"), (ty, OUT / f"{name}.gguf")):
        write_adapter(path, name, tensors, case, form)
        found = peer(bases.OUT / f"{name}-f32.gguf", path, tokens, max_seq_len)
        differences[form] = round(float(np.abs(found - expected).max()), 6)
    (OUT / f"{name}.tmp.gguf").unlink()
    bases.write_expected(OUT / f"{name}.expected", tokens, expected, max_seq_len)
    print(f"{name}: {changed:.2f} nats from the base, llama.cpp differs by {differences}")
    assert differences["F32"] < tolerance, f"{name}: llama.cpp disagrees by {differences}"
    report[name] = {
        "type": ty, "mean_change_nats": round(changed, 3), "llama_cpp_max_difference_nats": differences,
    }


def main(names):
    OUT.mkdir(parents=True, exist_ok=True)
    log_off = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(log_off, None)
    torch.set_num_threads(2)
    manifest_path = OUT / "manifest.json"
    manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else {}
    report = manifest.get("cases", {})
    for name, (targets, ty) in CASES.items():
        if not names or name in names:
            make_case(name, targets, ty, report)
    manifest = {
        "made_by": "scripts/golden_adapters.py",
        "seed": bases.SEED,
        "versions": {
            "python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__,
            "peft": peft.__version__, "gguf": importlib.metadata.version("gguf"), "numpy": np.__version__,
            "llama_cpp_python": llama_cpp.__version__,
        },
        "cases": {key: report[key] for key in sorted(report)},
        "sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest()
                   for p in sorted(OUT.iterdir()) if p.suffix in (".gguf", ".expected")},
    }
    manifest_path.write_text(json.dumps(manifest, indent=1) + "\n")
    total = sum(p.stat().st_size for p in OUT.iterdir())
    print(f"{OUT}: {total / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main(sys.argv[1:])
