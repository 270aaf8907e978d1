"""Decode while one process of the same priority keeps a core busy, as a share of the quiet speed."""

import subprocess
import sys
from pathlib import Path

from tables.common import DECODE, head, median, one_round, row


def run(args):
    head("model", "", "quiet, tok/s", "beside a busy process", "share")
    for file in args.files:
        for side in ("daybreak", "llama.cpp"):
            quiet, busy = [], []
            for _ in range(args.rounds):
                quiet.append(one_round(side, file, 32, args.n, args.threads))
                spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                try:
                    busy.append(one_round(side, file, 32, args.n, args.threads))
                finally:
                    spinning.kill()
                    spinning.wait()
            a, b = median(quiet, DECODE), median(busy, DECODE)
            row(Path(file).stem, side, f"{a:,.0f}", f"{b:,.0f}", f"{b / a:.0%}")
