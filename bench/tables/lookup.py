"""Prompt lookup: decode of a text that repeats its prompt with changes, and of a free one, with and without."""

import statistics
from pathlib import Path

from clients import chat
from ours import ROOT, Daybreak
from tables.common import head, row

NEW = 300
TEXT = (ROOT / "testdata/perplexity/text.txt").read_text()[:3000]
TASKS = {
    "repeat with a change": f"Repeat this text word for word, but write 'often' for 'always':\n\n{TEXT}",
    "free text": "Write a long and detailed story about a lighthouse keeper and the sea.",
}


def run(args):
    head("model", "", "without, tok/s", "with", "ratio", "same text")
    for file in args.files:
        flags = ["--ctx", 4096, "--kv-memory", "512M", "--prompt-lookup"]
        with Daybreak(file, args.threads, *flags, "off") as off, Daybreak(file, args.threads, *flags, "auto") as auto:
            for name, question in TASKS.items():
                # The first round reads the question; the others have it in the cache.
                ask = lambda server: chat(server.address, server.model(), question, NEW)  # noqa: E731
                pairs = [(ask(off), ask(auto)) for _ in range(args.rounds + 1)][1:]
                a, b = (1 / statistics.median(pair[k].per_token for pair in pairs) for k in (0, 1))
                same = all(x.text == y.text for x, y in pairs)
                row(Path(file).stem, name, f"{a:,.0f}", f"{b:,.0f}", f"{b / a:.2f}×", "yes" if same else "NO")
