"""Each number format of the model's weights as F32 by both quantisers: how far the model is from what it was, and how fast it is with us."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ours import BIN, ROOT, bench_round
from tables.common import DECODE, PREFILL, head, median, row

TYPES = ("Q4_0", "Q4_1", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16", "BF16")
TEXTS = ("ARCHITECTURE.md", "CONTRIBUTING.md", "docs/LOG.md", "LICENSE")
CONTEXT = 512


def run(args):
    by = {
        "daybreak": [BIN, "quantize", "-t", args.threads],
        "llama.cpp": [sys.executable, ROOT / "bench/llama_cpp_quantize.py", args.threads],
    }
    head(
        "model", "type", "MB", "mean KL divergence × 1000: daybreak", "llama.cpp", "ratio", "seconds: daybreak", "llama.cpp",
        f"prefill {args.p}", f"decode {args.n}",
    )
    with tempfile.TemporaryDirectory(prefix="daybreak-quantize-") as folder:
        folder = Path(folder)
        text, base, kl_base = folder / "text.txt", folder / "f32.gguf", folder / "base.bin"
        text.write_text("\n\n".join((ROOT / name).read_text() for name in TEXTS))
        for file in args.files:
            call([BIN, "quantize", file, base, "F32", "--allow-requantize", "--force"])
            call([BIN, "perplexity", base, text, "--ctx", CONTEXT, "--chunks", args.chunks, "--save-logits", kl_base])
            for name in TYPES:
                kl, seconds = {}, {}
                for side, command in by.items():
                    made = folder / f"{side}.gguf"
                    made.unlink(missing_ok=True)
                    start = time.perf_counter()
                    call([*command, base, made, name])
                    seconds[side] = time.perf_counter() - start
                    answer = call([BIN, "perplexity", made, text, "--chunks", args.chunks, "--kl", kl_base, "--json"])
                    kl[side] = json.loads(answer)["kl_divergence"]["mean"] * 1e3
                made = folder / "daybreak.gguf"
                speed = [bench_round(made, args.p, args.n, args.threads) for _ in range(args.rounds)]
                row(
                    Path(file).stem, name, f"{made.stat().st_size / 1e6:.0f}", *(f"{kl[side]:.3f}" for side in by),
                    f"{kl['daybreak'] / kl['llama.cpp']:.2f}", *(f"{seconds[side]:.1f}" for side in by),
                    f"{median(speed, PREFILL):,.0f}", f"{median(speed, DECODE):,.0f}",
                )


def call(command):
    out = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900)
    if out.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{out.stderr.strip()}")
    return out.stdout
