"""Prefill and decode of one stream, beside the peers and beside what the memory can deliver."""

import statistics
from pathlib import Path

from ours import machine
from tables.common import DECODE, PREFILL, best_and_median, head, median, rounds, row


def run(args):
    head("model", "", "daybreak: best / median", "peer: best / median", "ratio of medians", "share of the read bandwidth")
    for file in args.files:
        before = machine(args.threads)["read_gb_per_second"]
        results = rounds(args, file, args.p, args.n)
        read = statistics.mean([before, machine(args.threads)["read_gb_per_second"]])
        ours = results.pop("daybreak")
        for metric, name in ((PREFILL, f"prefill {args.p}"), (DECODE, f"decode {args.n}")):
            share = ""
            if metric == DECODE:
                share = f"{median(ours, DECODE) * ours[0]['bytes_per_decode_step'] / 1e9 / read:.0%} of {read:.1f} GB/s"
            for side, theirs in results.items():
                ratio = median(ours, metric) / median(theirs, metric)
                theirs = f"{side} {best_and_median(theirs, metric)}"
                row(Path(file).stem, name, best_and_median(ours, metric), theirs, f"{ratio:.2f}×", share)
