#!/usr/bin/env python3
"""Makes testdata/golden-models/lora.json: ten training steps of adapters beside the tiny golden models, in `peft`.

Needs (see testdata/golden-models/README.md):
    torch==2.15.0 transformers==5.23.0 gguf==0.19.0 numpy==2.4.6 peft==0.21.2

The weights are those of the committed files, dequantised where they are quantised. Neither A nor B begins as zeros, so that
both have a gradient at once: each is `uniform` of its GGUF name, in GGUF's order of rows. What is learnt, how, and what the
file holds is as in scripts/golden_steps.py.

    scripts/golden_lora.py
"""

import golden_steps

import torch
from peft import LoraConfig, get_peft_model

import golden_models as golden
from golden_numbers import uniform

RANK, ALPHA = 4, 8
MODULES = {
    "q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj", "gate": "gate_proj", "up": "up_proj", "down": "down_proj",
}
# (file, matrices)
CASES = [(f"{name}-f32", "all") for name in golden_steps.NAMES] + [
    ("llama-f32", "q,v"), ("qwen2-f32", "q,v"), ("quant-Q4_K", "all"), ("quant-Q8_0", "down"),
]


def adapter_tensors(model, case, of):
    """GGUF's name → what `of` finds beside A or B, in GGUF's order of rows."""
    found = {}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            name, part = gguf_name(key, case)
            values = of(parameter).numpy()
            found[f"{name}.{part}"] = golden.to_gguf(values, name, model, case) if part == "lora_b" else values
    return found


def gguf_name(key, case):
    """`blk.0.attn_q.weight` and `lora_a` of `base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight`."""
    module, part = key.removeprefix("base_model.model.").removesuffix(".default.weight").rsplit(".", 1)
    return golden.gguf_name(f"{module}.weight", case.arch), part.lower()


def with_adapter(model, case, targets, rank=RANK, alpha=ALPHA):
    modules = list(MODULES.values()) if targets == "all" else [MODULES[target] for target in targets.split(",")]
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules))
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            name, part = gguf_name(key, case)
            values = uniform(f"{name}.{part}", tuple(parameter.shape)) / 2
            if part == "lora_b":
                values = golden.to_transformers(values, name, model, case)
            parameter.data = torch.tensor(values, dtype=torch.float32)
    return model


def load(file):
    name, ty = file.rsplit("-", 1)
    case = golden.QUANT if name == "quant" else golden.CASES[name]
    model = golden.build(case)
    golden.load_gguf(golden.OUT / f"{file}.gguf", model, case)
    return name, case, model


def steps(file, targets):
    name, case, model = load(file)
    (_, n_tokens, _), = case.runs
    tokens = golden.tokens_for(name, n_tokens, golden.VOCAB)
    model = with_adapter(model, case, targets)
    return golden_steps.ten_steps(model, tokens, lambda of: adapter_tensors(model, case, of))


if __name__ == "__main__":
    golden_steps.write({f"{file} {targets}": steps(file, targets) for file, targets in CASES}, "lora.json")
