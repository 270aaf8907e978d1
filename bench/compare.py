"""Us and llama.cpp in one interleaved run, as a Markdown table (see bench/README.md)."""

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daybreak" / "models"
BIN = Path(os.environ.get("DAYBREAK_BIN") or ROOT / "target/release/daybreak")
METRICS = ("prefill_tokens_per_second", "decode_tokens_per_second")


def run_json(command):
    out = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if out.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{out.stderr.strip()}")
    return json.loads(out.stdout)


def rounds_of_both(file, args):
    """`args.rounds` rounds, ours and theirs in turn."""
    ours, theirs = [], []
    shape = ["-p", str(args.p), "-n", str(args.n), "-t", str(args.threads)]
    for _ in range(args.rounds):
        ours.append(run_json([BIN, "bench", file, *shape, "-r", "1", "--json"]))
        theirs.append(run_json([sys.executable, ROOT / "bench/llama_cpp_peer.py", file, *shape]))
    return ours, theirs


def wait_until_healthy(process, timeout=60):
    """Reads the address that `serve` prints; returns it once /health answers 200."""
    deadline = time.perf_counter() + timeout
    address = None
    while time.perf_counter() < deadline and address is None:
        line = process.stdout.readline()
        if not line and process.poll() is not None:
            sys.exit("daybreak serve ended before it listened")
        if found := re.search(r"http://\S+", line):
            address = found.group(0).rstrip("/")
    while time.perf_counter() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
                if answer.status == 200:
                    return address
        except OSError:
            time.sleep(0.005)
    sys.exit("daybreak serve did not become healthy in time")


def serve(file, data, *flags):
    command = [BIN, "serve", "--model", file, "--port", "0", "--data", data, *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def stop(process):
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)


def start_seconds(file, args):
    """Process start until /health answers 200, warm file cache; median of `args.rounds`."""
    spent = []
    with tempfile.TemporaryDirectory() as data:
        for _ in range(args.rounds + 1):
            start = time.perf_counter()
            process = serve(file, data, "--threads", str(args.threads))
            wait_until_healthy(process)
            spent.append(time.perf_counter() - start)
            stop(process)
    return statistics.median(spent[1:])


def peak_memory_after_full_context(file, args):
    """VmHWM in bytes of `serve --ctx 2048 --kv-memory 64M` after a conversation that filled the context."""
    with tempfile.TemporaryDirectory() as data:
        process = serve(file, data, "--threads", str(args.threads), "--ctx", "2048", "--kv-memory", "64M")
        address = wait_until_healthy(process)
        body = {"model": json.load(urllib.request.urlopen(f"{address}/v1/models"))["data"][0]["id"]}
        body |= {"prompt": list(range(1000, 1000 + 2000)), "max_tokens": 100, "ignore_eos": True}
        request = urllib.request.Request(
            f"{address}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            usage = json.load(answer)["usage"]
        assert usage["total_tokens"] >= 2040, usage
        status = Path(f"/proc/{process.pid}/status").read_text()
        stop(process)
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--model", action="append", help="GGUF file (default: both test models)")
    args.add_argument("-p", type=int, default=512)
    args.add_argument("-n", type=int, default=128)
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--speed-only", action="store_true", help="leave out start-up and memory")
    args = args.parse_args()
    files = args.model or [str(CACHE / "smollm2-135m.gguf"), str(CACHE / "qwen2.5-coder-0.5b.gguf")]

    print(f"{args.threads} threads, {args.rounds} rounds in turn, {platform.machine()}\n")
    print(f"| model | | ours: best / median | llama.cpp: best / median | ratio of medians |\n|---|---|---|---|---|")
    for file in files:
        ours, theirs = rounds_of_both(file, args)
        for metric, name in zip(METRICS, (f"prefill {args.p}", f"decode {args.n}")):
            a, b = [r[metric] for r in ours], [r[metric] for r in theirs]
            ratio = statistics.median(a) / statistics.median(b)
            print(
                f"| {Path(file).stem} | {name} tok/s | {max(a):,.0f} / {statistics.median(a):,.0f} "
                f"| {max(b):,.0f} / {statistics.median(b):,.0f} | {ratio:.2f}× |",
                flush=True,
            )
    print(f"\nours: {ours[0]['isa']} · llama.cpp of llama-cpp-python {theirs[0]['version']}: {theirs[0]['system']}")
    if args.speed_only:
        return

    print("\n| model | start to healthy, s (at most 0.5) | peak memory after a full context of 2048, MB | at most |\n|---|---|---|---|")
    for file in files:
        size = os.path.getsize(file)
        peak = peak_memory_after_full_context(file, args)
        bound = size * 1.3 + 164e6
        print(
            f"| {Path(file).stem} | {start_seconds(file, args):.2f} | {peak / 1e6:,.0f} | {bound / 1e6:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
