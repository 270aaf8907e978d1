"""Process start until healthy and until the first token, beside llama-server; warm file cache."""

import statistics
import time
from pathlib import Path

from clients import complete, ids
from llama_server import LlamaServer
from ours import Daybreak
from tables.common import head, row


def first_token(start_server):
    with start_server() as server:
        complete(server.address, server.model(), ids(16, 1), 1)
        return server.seconds_to_healthy, time.perf_counter() - server.start


def run(args):
    head("model", "daybreak: healthy, s", "first token, s", "llama-server: healthy, s", "first token, s", "ratio")
    for file in args.files:
        ours, theirs = [], []
        for _ in range(args.rounds + 1):
            ours.append(first_token(lambda: Daybreak(file, args.threads)))
            theirs.append(first_token(lambda: LlamaServer(file, args.threads)))
        # The first round warms the file cache.
        a, b = ([statistics.median(r[k] for r in side[1:]) for k in (0, 1)] for side in (ours, theirs))
        row(Path(file).stem, *(f"{x:.2f}" for x in (*a, *b)), f"{a[1] / b[1]:.2f}×")
