"""A training step of a LoRA of rank 16 on all matrices of qwen2.5-coder:0.5b, four sequences of 512 random tokens, all of them learnt or only the last third: ours over the file as it is, and `peft` over the weights that `daybreak train export` writes out for it."""

import statistics
import subprocess
import tempfile

from ours import BIN, run_json
from tables.common import head, row, run_torch

MODEL = "qwen2.5-coder:0.5b"
SPEED, MEMORY = "tokens_per_second", "peak_memory_bytes"
SHAPE = ["--lora", 16, "--seq-len", 512, "--sequences", 4]


def run(args):
    head("learnt", "tokens/s: daybreak", "peft, bf16", "peft, f32", "ratio to the faster", "MB: daybreak", "peft, the faster", "ratio")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([BIN, "train", "export", MODEL, "--out", folder, "--force"], check=True, capture_output=True)
        for share, learnt in ((1, "every token"), (1 / 3, "the last third")):
            shape = [*SHAPE, "--answer-share", share, "--threads", args.threads, "--steps", 3]
            sides = {side: [] for side in ("ours", "bf16", "f32")}
            for _ in range(args.rounds):
                for side, done in sides.items():
                    if side == "ours":
                        done.append(run_json([BIN, "train", "speed", "--model", MODEL, *shape, "--json"]))
                    else:
                        done.append(run_torch("peft_peer.py", folder, *shape, "--products", side))
            counts = {rounds[0]["n_parameters"] for rounds in sides.values()}
            assert len(counts) == 1, f"not the same adapter: {counts}"
            speed = {side: statistics.median(r[SPEED] for r in rounds) for side, rounds in sides.items()}
            memory = {side: statistics.median(r[MEMORY] for r in rounds) / 1e6 for side, rounds in sides.items()}
            faster = max("bf16", "f32", key=speed.get)
            row(learnt, *(f"{speed[side]:,.0f}" for side in sides), f"{speed['ours'] / speed[faster]:.2f}×", f"{memory['ours']:,.0f}", f"{memory[faster]:,.0f}", f"{memory['ours'] / memory[faster]:.2f}×")
