"""What the tables share: rounds of all sides in turn, and how figures are written."""

import functools
import os
import statistics
import subprocess
import sys

from ours import ROOT, bench_round, run_json

PREFILL, DECODE = "prefill_tokens_per_second", "decode_tokens_per_second"
# How PyTorch and the libraries that it calls are told to do without AVX-512.
WITHOUT_AVX512 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
SCRIPTS = {"llama.cpp": "llama_cpp_peer.py", "OpenVINO": "openvino_peer.py"}


@functools.cache
def openvino_reads(file):
    """Whether OpenVINO takes this file; it knows some architectures and number formats only."""
    command = [sys.executable, ROOT / "bench" / SCRIPTS["OpenVINO"], file, "-p", "8", "-n", "2"]
    return subprocess.run(command, capture_output=True, timeout=600).returncode == 0


def sides(args, file):
    """The names of those who can run `file`, ours first."""
    names = ["daybreak", "llama.cpp"]
    if args.openvino and openvino_reads(file):
        names.append("OpenVINO")
    return names


def one_round(side, file, prompt, new, threads, streams=1):
    shape = ["-p", prompt, "-n", new, "-t", threads, "--streams", streams]
    if side == "daybreak":
        return bench_round(file, prompt, new, threads, "--streams", streams)
    return run_json([sys.executable, ROOT / "bench" / SCRIPTS[side], file, *shape])


def run_torch(script, *arguments, timeout=900):
    """A round of PyTorch by one of the scripts beside this folder."""
    python = os.environ.get("TORCH_PYTHON") or sys.exit("TORCH_PYTHON names no Python with PyTorch: bench/run.sh makes one")
    env = WITHOUT_AVX512 if os.environ.get("DAYBREAK_ISA") == "avx2" else None
    return run_json([python, ROOT / "bench" / script, *arguments], timeout, env)


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
