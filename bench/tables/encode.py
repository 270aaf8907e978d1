"""The manual pages of this machine (or `--text`, a JSONL of documents) as ids, by a vocabulary of 32,768 tokens learnt from them: the first pass over the texts, tokenizer loaded; `fastokens` and `tokenizers` get the same documents and the same file."""

import gzip
import hashlib
import json
import statistics
import sys
import tempfile
from pathlib import Path

from ours import BIN, ROOT, run_json
from tables.bpe import MANUAL, MAX_BYTES, VOCAB_SIZE
from tables.common import head, row

PEERS = ("fastokens", "tokenizers")
LANGUAGES = {"English": "man*/*.gz", "Chinese": "zh_*/man*/*.gz"}
OURS = ["cargo", "bench", "--quiet", "-p", "tokenizer", "--bench", "encode_documents", "--manifest-path", ROOT / "Cargo.toml", "--"]


def run(args):
    with tempfile.TemporaryDirectory(prefix="daybreak-encode-") as folder:
        folder = Path(folder)
        texts = {"--text": Path(args.text).resolve()} if args.text else manual_pages(folder)
        command = [BIN, "train", "tokenizer", *texts.values(), "--out", folder / "vocabulary", "--vocab-size", VOCAB_SIZE]
        run_json([*command, "--json"])
        head("", "MB", "MB/s: best", "median", "daybreak is so many times as fast")
        for name, documents in texts.items():
            one_text(args, folder, name, documents)


def one_text(args, folder, name, documents):
    gguf, file = folder / "vocabulary/tokenizer.gguf", folder / "vocabulary/tokenizer.json"
    speeds = {side: [] for side in ("daybreak", *PEERS)}
    digests = {}
    n_mb = sum(len(json.loads(line)["text"].encode()) for line in Path(documents).open(encoding="utf-8")) / 1e6
    for round_idx in range(args.rounds):
        # What ran before slows whoever comes next, so each is first in turn.
        first = round_idx % len(speeds)
        for side in [*speeds][first:] + [*speeds][:first]:
            if side == "daybreak":
                seconds = run_json([*OURS, gguf, documents, args.threads, 1, folder / "ids"])["seconds"][0]
                digests[side] = hashlib.sha256((folder / "ids").read_bytes()).hexdigest()
            else:
                peer = run_json([sys.executable, ROOT / "bench/encode_peer.py", side, file, documents, args.threads])
                seconds, digests[side] = peer["seconds"], peer["digest"]
            speeds[side].append(n_mb / seconds)
    if len(set(digests.values())) > 1:
        sys.exit(f"the ids differ: {digests}")
    ours = statistics.median(speeds["daybreak"])
    for side, found in speeds.items():
        middle = statistics.median(found)
        factor = "" if side == "daybreak" else f"{ours / middle:.2f}×"
        row(f"{name}, {side}", f"{n_mb:.1f}", f"{max(found):.0f}", f"{middle:.0f}", factor)


def manual_pages(folder):
    """A file of documents for each language that has pages."""
    files = {}
    for language, pattern in LANGUAGES.items():
        left = MAX_BYTES
        lines = []
        for page in sorted(MANUAL.glob(pattern)):
            text = gzip.open(page).read().decode("utf-8", "ignore")
            left -= len(text.encode())
            if left < 0:
                break
            lines.append(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        if lines:
            files[language] = folder / f"{language}.jsonl"
            files[language].write_text("".join(lines), encoding="utf-8")
    if not files:
        sys.exit(f"no manual pages under {MANUAL}: name documents with --text")
    return files
