"""Peak resident memory with `--ctx 2048 --kv-memory 64M` after a conversation that filled the context."""

import os
from pathlib import Path

from clients import complete, ids
from ours import Daybreak
from tables.common import head, row


def run(args):
    head("model", "peak memory (VmHWM), MB", "the file, MB", "above the file, MB")
    for file in args.files:
        with Daybreak(file, args.threads, "--ctx", 2048, "--kv-memory", "64M") as server:
            complete(server.address, server.model(), ids(2000, 1), 48)
            peak = server.peak_memory()
        size = os.path.getsize(file)
        row(Path(file).stem, f"{peak / 1e6:,.0f}", f"{size / 1e6:,.0f}", f"{(peak - size) / 1e6:,.0f}")
