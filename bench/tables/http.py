"""Eight clients over HTTP with prompts of 150 tokens: time to first token and time per token, beside llama-server."""

import statistics
from pathlib import Path

from clients import complete, ids, together
from llama_server import LlamaServer
from ours import Daybreak
from tables.common import head, row

CLIENTS, PROMPT, NEW = 8, 150, 64
# As in streams.py: answers to prompts without a meaning run in circles.
FLAGS = ["--ctx", 2048, "--kv-memory", "512M", "--prompt-lookup", "off"]


def load(server, round_idx, shared):
    """Median seconds to the first token and per token of eight clients that come at once."""
    model, seed = server.model(), 1000 * round_idx
    prompt = lambda i: ids(PROMPT, seed if shared else seed + i)  # noqa: E731
    answers = together(CLIENTS, lambda i: complete(server.address, model, prompt(i), NEW))
    first = statistics.median(answer.first for answer in answers)
    return first, statistics.median(answer.per_token for answer in answers)


def run(args):
    head("model", f"{CLIENTS} clients", "daybreak: first token, ms", "llama-server", "ratio", "daybreak: per token, ms", "llama-server")
    for file in args.files:
        for shared in (False, True):
            ours, theirs = [], []
            for round_idx in range(args.rounds):
                with Daybreak(file, args.threads, *FLAGS) as server:
                    load(server, 100, shared)
                    ours.append(load(server, round_idx, shared))
                with LlamaServer(file, args.threads, CLIENTS) as server:
                    load(server, 100, shared)
                    theirs.append(load(server, round_idx, shared))
            a, b = ([statistics.median(r[k] for r in side) * 1e3 for k in (0, 1)] for side in (ours, theirs))
            name = "one prompt for all" if shared else "a prompt each"
            row(Path(file).stem, name, f"{a[0]:,.0f}", f"{b[0]:,.0f}", f"1/{b[0] / a[0]:.1f}", f"{a[1]:.1f}", f"{b[1]:.1f}")
