"""What the tables share: rounds of all sides in turn, and how figures are written."""

import statistics
import sys
from pathlib import Path

from ours import ROOT, bench_round, run_json

PREFILL, DECODE = "prefill_tokens_per_second", "decode_tokens_per_second"
# What OpenVINO's reader of GGUF files takes.
OPENVINO_TYPES = ("Q4_0", "Q4_1", "Q8_0", "F16")


def sides(args, file):
    """The names of those who can run `file`, ours first."""
    names = ["daybreak", "llama.cpp"]
    if args.openvino and any(f"-{t}".lower() in Path(file).stem.lower() for t in OPENVINO_TYPES):
        names.append("OpenVINO")
    return names


def one_round(side, file, prompt, new, threads, streams=1):
    shape = ["-p", prompt, "-n", new, "-t", threads, "--streams", streams]
    if side == "daybreak":
        return bench_round(file, prompt, new, threads, "--streams", streams)
    script = {"llama.cpp": "llama_cpp_peer.py", "OpenVINO": "openvino_peer.py"}[side]
    return run_json([sys.executable, ROOT / "bench" / script, file, *shape])


def rounds(args, file, prompt, new, streams=1, names=None):
    """`args.rounds` rounds, the sides taking turns: {side: [round, …]}."""
    results = {side: [] for side in names or sides(args, file)}
    for _ in range(args.rounds):
        for side, done in results.items():
            done.append(one_round(side, file, prompt, new, args.threads, streams))
    return results


def best_and_median(results, metric):
    values = [result[metric] for result in results]
    return f"{max(values):,.0f} / {statistics.median(values):,.0f}"


def median(results, metric):
    return statistics.median(result[metric] for result in results)


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(*cells):
    row(*cells)
    print("|" + "---|" * len(cells))
