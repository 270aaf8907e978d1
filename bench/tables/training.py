"""A training step (forward, backward, AdamW) of GPTs of width 64·depth with heads of 64, untied, 8 sequences of 512 random tokens: ours and PyTorch's, compiled, the same model in both."""

import os
import statistics

from ours import BIN, run_json
from tables.common import head, row, run_torch

SHAPES = ((4, 8192), (6, 8192), (12, 32768))
SPEED, MEMORY = "tokens_per_second", "peak_memory_bytes"


def run(args):
    head("depth, vocabulary", "products", "tokens/s: daybreak", "PyTorch", "ratio", "GFLOP/s", "MB: daybreak", "PyTorch", "ratio")
    for depth, vocab_size in SHAPES:
        for products in ("f32",) if os.environ.get("DAYBREAK_ISA") == "avx2" else ("bf16", "f32"):
            shape = ["--depth", depth, "--vocab-size", vocab_size, "--kv-heads", depth, "--products", products, "--threads", args.threads]
            steps = ["--steps", 5 if depth < 12 else 2]
            ours, theirs = [], []
            for _ in range(args.rounds):
                ours.append(run_json([BIN, "train", "speed", *shape, *steps, "--json"]))
                theirs.append(run_torch("torch_peer.py", *shape, *steps))
            assert ours[0]["n_parameters"] == theirs[0]["n_parameters"], "not the same model"
            a, b = (statistics.median(side[SPEED] for side in sides) for sides in (ours, theirs))
            m, n = (statistics.median(side[MEMORY] for side in sides) / 1e6 for sides in (ours, theirs))
            flops = a * ours[0]["flops_per_token"] / 1e9
            row(f"{depth}, {vocab_size:,}", products, f"{a:,.0f}", f"{b:,.0f}", f"{a / b:.2f}×", f"{flops:,.0f}", f"{m:,.0f}", f"{n:,.0f}", f"{m / n:.2f}×")
