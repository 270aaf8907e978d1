"""First token when 2,000 tokens were already seen and 16 are new, beside our own time per token."""

import statistics
from pathlib import Path

from clients import complete, ids
from ours import Daybreak
from tables.common import head, row

PREFIX, NEW_TOKENS = 2000, 16


def run(args):
    head("model", "first token, ms", "per token, ms", "tokens from the cache")
    for file in args.files:
        with Daybreak(file, args.threads, "--ctx", 4096, "--kv-memory", "512M", "--prompt-lookup", "off") as server:
            model, prefix = server.model(), ids(PREFIX, 1)
            complete(server.address, model, prefix, 8)
            answers = [
                complete(server.address, model, prefix + ids(NEW_TOKENS, 50 + i), 32)
                for i in range(max(5, args.rounds * 3))
            ]
        first = statistics.median(answer.first for answer in answers) * 1e3
        per_token = statistics.median(answer.per_token for answer in answers) * 1e3
        row(Path(file).stem, f"{first:.1f}", f"{per_token:.2f}", min(answer.n_cached for answer in answers))
