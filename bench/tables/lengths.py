"""Prefill of prompts of several lengths, with one thread and with all."""

from pathlib import Path

from tables.common import PREFILL, head, median, rounds, row, sides

LENGTHS = (32, 128, 512, 2000)


def run(args):
    names = max((sides(args, file) for file in args.files), key=len)
    head("model", "prompt", *(f"{side}, tok/s" for side in names), "ratio to the best peer")
    for file in args.files:
        for length in LENGTHS:
            results = rounds(args, file, length, 2, names=sides(args, file))
            figures = [median(theirs, PREFILL) for theirs in results.values()]
            shown = [f"{figure:,.0f}" for figure in figures] + [""] * (len(names) - len(figures))
            row(Path(file).stem, length, *shown, f"{figures[0] / max(figures[1:]):.2f}×")
