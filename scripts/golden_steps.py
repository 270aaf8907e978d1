#!/usr/bin/env python3
"""Makes testdata/golden-models/steps.json: ten training steps of the tiny golden models in PyTorch.

Needs (see testdata/golden-models/README.md):
    torch==2.15.0 transformers==5.23.0 gguf==0.19.0 numpy==2.4.6

The models are those of scripts/golden_models.py. Each learns its own token sequence with AdamW in f32. Of every tensor, in
GGUF's name and order of rows, the file holds for the first step's gradient, and for the weights after one and after ten
steps, the sum of squares and the product with cos(1), cos(2), …; and the losses and the gradient's lengths of all steps.

    scripts/golden_steps.py
"""

import json
import sys
import types

# It runs no model here.
sys.modules.setdefault("llama_cpp", types.ModuleType("llama_cpp"))

import numpy as np
import torch

import golden_models as golden

NAMES = (
    "llama", "llama-linear", "llama-llama3", "llama-yarn", "mistral", "qwen2", "qwen3", "gemma3", "granite", "olmo2",
    "olmo3", "smollm3",
)
STEPS = 10
LR, BETAS, EPS, DECAY = 1e-3, (0.9, 0.95), 1e-8, 0.1


def figures(values):
    values = np.asarray(values, dtype=np.float64).ravel()
    return [float(values @ values), float(values @ np.cos(np.arange(1, len(values) + 1)))]


def adamw(model):
    """For what is learnt; only matrices decay."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learnt if p.ndim == 2], "weight_decay": DECAY},
        {"params": [p for p in learnt if p.ndim != 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)


def gradient(parameter):
    return parameter.grad


def weight(parameter):
    return parameter.data


def ten_steps(model, tokens, tensors):
    """`tensors` gives GGUF's name → array of what a function finds beside each parameter."""
    model.train()
    tokens = torch.tensor([tokens])
    optimizer = adamw(model)
    figures_of = lambda of: {name: figures(values) for name, values in tensors(of).items()}
    result = {"losses": [], "grad_norms": []}
    for step in range(STEPS):
        logits = model(tokens, use_cache=False).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1].float(), tokens[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        result["losses"].append(loss.item())
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        result["grad_norms"].append(torch.nn.utils.get_total_norm(gradients).item())
        if step == 0:
            result["gradients"] = figures_of(gradient)
        optimizer.step()
        if step in (0, STEPS - 1):
            result[f"weights_{step + 1}"] = figures_of(weight)
    return result


def steps(name):
    case = golden.CASES[name]
    model = golden.build(case)
    golden.fill(model, name, rounded=len(case.types) > 1)

    def tensors(of):
        kept = {key: parameter.data for key, parameter in model.named_parameters()}
        gemma = case.model == "Gemma3"
        for key, parameter in model.named_parameters():
            values = of(parameter).clone()
            # What is no weight has no 1 to be added to it.
            parameter.data = values - 1 if gemma and "norm" in key and of is gradient else values
        found = golden.gguf_tensors(model, case)
        for key, parameter in model.named_parameters():
            parameter.data = kept[key]
        return {name: values for name, values in found.items() if not name.startswith("rope_")}

    return ten_steps(model, golden.tokens_for(name, golden.N_TOKENS, golden.VOCAB), tensors)


def write(result, name):
    """A line for each case."""
    text = json.dumps(result, separators=(",", ":")).replace('},"', '},\n"')
    (golden.OUT / name).write_text(text + "\n")
    for name, case in result.items():
        print(f"{name:14} {case['losses'][0]:.4f} → {case['losses'][-1]:.4f}")


if __name__ == "__main__":
    write({name: steps(name) for name in NAMES}, "steps.json")
