"""What 4,000 tokens of context add to a token's time."""

import statistics
from pathlib import Path

from clients import complete, ids
from ours import Daybreak, machine
from tables.common import head, row

LONG, NEW = 4000, 64


def run(args):
    peaks = machine(args.threads)
    print(f"f32 {peaks['f32_gflop_per_second']:.0f} GFLOP/s, memory {peaks['read_gb_per_second']:.1f} GB/s\n")
    head("model", "per token, ms: short context", f"after {LONG} tokens", "added")
    for file in args.files:
        with Daybreak(file, args.threads, "--ctx", 8192, "--kv-memory", "1G", "--prompt-lookup", "off") as server:
            model = server.model()
            short, long = [], []
            for i in range(args.rounds):
                short.append(complete(server.address, model, ids(8, i), NEW).per_token)
                long.append(complete(server.address, model, ids(LONG, i), NEW).per_token)
        a, b = statistics.median(short) * 1e3, statistics.median(long) * 1e3
        row(Path(file).stem, f"{a:.2f}", f"{b:.2f}", f"{b - a:.2f}")
