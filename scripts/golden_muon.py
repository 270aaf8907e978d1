#!/usr/bin/env python3
"""Makes testdata/golden-models/muon.json: five steps of PyTorch's Muon for matrices of several shapes.

Needs (see testdata/golden-models/README.md):
    torch==2.15.0 numpy==2.4.6

Weights and gradients are `uniform`, seeded by shape and step. PyTorch multiplies in bf16, and five rounds of the polynomial
make much of what that rounds away. So the file holds the weights behind one and behind five steps as the same code gives
them in double precision, and how far PyTorch's own steps end from these: the length of the difference as a share of the
way from the first weights.

    scripts/golden_muon.py
"""

import json
import unittest.mock
from pathlib import Path

import numpy as np
import torch
from torch.optim import _muon

from golden_numbers import uniform

OUT = Path(__file__).resolve().parent.parent / "testdata" / "golden-models" / "muon.json"
SHAPES = [(16, 16), (8, 24), (40, 12), (33, 20), (4, 64)]
STEPS = 5
# The decay is strong, so that a test sees it beside the steps.
LR, DECAY, MOMENTUM = 0.02, 1.0, 0.95


class Exactly:
    """`torch` as its own Muon sees it, with double precision where it asks for bf16."""

    bfloat16 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def steps(shape, dtype):
    """The weights before and behind each step."""
    name = f"{shape[0]} x {shape[1]}"
    weights = torch.nn.Parameter(torch.tensor(uniform(name, shape), dtype=dtype))
    optimizer = torch.optim.Muon(
        [weights], lr=LR, weight_decay=DECAY, momentum=MOMENTUM, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    found = [weights.detach().double().numpy().copy()]
    for step in range(STEPS):
        weights.grad = torch.tensor(uniform(f"{name}, {step}", shape), dtype=dtype)
        optimizer.step()
        found.append(weights.detach().double().numpy().copy())
    return found


def main():
    result = []
    for shape in SHAPES:
        rounded = steps(shape, torch.float32)
        with unittest.mock.patch.object(_muon, "torch", Exactly()):
            exact = steps(shape, torch.float64)
        case = {"shape": shape}
        for step in (1, STEPS):
            way = np.linalg.norm(exact[step] - exact[0])
            case[f"weights_{step}"] = [round(float(x), 8) for x in exact[step].ravel()]
            case[f"bf16_{step}"] = float(np.linalg.norm(rounded[step] - exact[step]) / way)
        print(shape, case["bf16_1"], case[f"bf16_{STEPS}"])
        result.append(case)
    settings = {"lr": LR, "weight_decay": DECAY, "momentum": MOMENTUM}
    text = json.dumps(settings | {"cases": result}, separators=(",", ":")).replace("},{", "},\n{")
    OUT.write_text(text + "\n")


if __name__ == "__main__":
    main()
