"""A vocabulary of 32,768 tokens learnt from the manual pages of this machine (or `--text`): ours from process start to both files written, the peers' from lines in memory on."""

import gzip
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ours import BIN, ROOT, run_json
from tables.common import head, row

VOCAB_SIZE = 32768
PEERS = ("tokenizers", "rustbpe")
MANUAL = Path("/usr/share/man")
MAX_BYTES = 18_000_000


def run(args):
    with tempfile.TemporaryDirectory(prefix="daybreak-bpe-") as folder:
        text = args.text or manual_pages(Path(folder))
        seconds = {side: [] for side in ("daybreak", *PEERS)}
        for i in range(args.rounds):
            start = time.perf_counter()
            command = [BIN, "train", "tokenizer", text, "--out", Path(folder) / f"{i}", "--vocab-size", VOCAB_SIZE]
            run_json([*command, "--threads", args.threads, "--json"])
            seconds["daybreak"].append(time.perf_counter() - start)
            for side in PEERS:
                peer = [sys.executable, ROOT / "bench/bpe_peer.py", side, text, VOCAB_SIZE]
                seconds[side].append(run_json(peer)["seconds"])
        print(f"{Path(text).stat().st_size / 1e6:.1f} MB of text\n")
        head("", "seconds: best", "median", "daybreak is so many times as fast")
        ours = statistics.median(seconds["daybreak"])
        for side, times in seconds.items():
            middle = statistics.median(times)
            row(side, f"{min(times):.2f}", f"{middle:.2f}", "" if side == "daybreak" else f"{middle / ours:.1f}×")


def manual_pages(folder):
    """English and Chinese pages as they are stored, in one file."""
    path = folder / "manual.txt"
    left = MAX_BYTES
    with path.open("wb") as out:
        for pages in (sorted(MANUAL.glob("zh_*/man*/*.gz")), sorted(MANUAL.glob("man*/*.gz"))):
            for page in pages:
                text = gzip.open(page).read().decode("utf-8", "ignore").encode()[:left]
                left -= len(text)
                out.write(text)
    if left == MAX_BYTES:
        sys.exit(f"no manual pages under {MANUAL}: name a text with --text")
    return path
