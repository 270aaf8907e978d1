"""Eight answers at once: ours over HTTP, the peers in process (their batch APIs)."""

import statistics
from pathlib import Path

from clients import complete, ids, together
from ours import Daybreak
from tables.common import DECODE, head, one_round, row, sides

STREAMS = 8
# The prompts mean nothing, and answers to them run in circles, which prompt lookup would take for its own merit.
FLAGS = ["--ctx", 2048, "--kv-memory", "512M", "--prompt-lookup", "off"]


def over_http(server, new, round_idx):
    """Tokens per second of all, from the moment that the last stream has begun until the first ends."""
    model = server.model()
    answers = together(STREAMS, lambda i: complete(server.address, model, ids(1, round_idx * 100 + i), new))
    start = max(answer.arrived[0] for answer in answers)
    end = min(answer.arrived[-1] for answer in answers)
    n = sum(sum(start < arrived <= end for arrived in answer.arrived) for answer in answers)
    return n / (end - start)


def run(args):
    head("model", f"{STREAMS} streams", "daybreak over HTTP: best / median, tok/s in all", "peer, in process", "ratio")
    for file in args.files:
        ours, theirs = [], {side: [] for side in sides(args, file)[1:]}
        with Daybreak(file, args.threads, *FLAGS) as server:
            over_http(server, 16, 99)
            for round_idx in range(args.rounds):
                ours.append(over_http(server, args.n, round_idx))
                for side, done in theirs.items():
                    done.append(one_round(side, file, 32, args.n, args.threads, STREAMS)[DECODE])
        for side, done in theirs.items():
            ratio = statistics.median(ours) / statistics.median(done)
            shown = f"{max(ours):,.0f} / {statistics.median(ours):,.0f}"
            peer = f"{side} {max(done):,.0f} / {statistics.median(done):,.0f}"
            row(Path(file).stem, f"{args.n} tokens each", shown, peer, f"{ratio:.2f}×")
