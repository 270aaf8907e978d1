"""smollm2:135m learns a style from 160 of 200 pairs of answers (thanks and lower case preferred to shouting), once through: how many of the other 40 pairs are preferred as chosen, how long it takes, and what it costs on a general text."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

from ours import BIN, CACHE, ROOT, run_json
from tables.common import head, row

MODEL = CACHE / "models/smollm2-135m.gguf"
TEXT = ROOT / "testdata/perplexity/text.txt"
SUBJECTS = (
    "rain", "bread", "cats", "trains", "music", "snow", "rivers", "tea", "books", "bicycles", "clouds", "gardens", "islands", "clocks",
    "horses", "bridges", "apples", "mountains", "letters", "windows", "ships", "forests", "stars", "shoes", "paper", "salt", "birds",
    "stairs", "lamps", "maps", "coins", "doors", "rice", "sand", "ropes", "bells", "kites", "honey", "wool", "glass",
)
ASKED = (
    ("Tell me about {}.", "useful in many ways"),
    ("What is special about {}?", "older than most people think"),
    ("Why do people like {}?", "good company on a long day"),
    ("What should I know about {}?", "different from place to place"),
    ("Describe {} to me.", "simple once you look closely"),
)


def run(args):
    with tempfile.TemporaryDirectory(prefix="daybreak-preferences-") as folder:
        pairs, out = Path(folder) / "pairs.jsonl", Path(folder) / "run"
        pairs.write_text("".join(json.dumps(pair(subject, *asked)) + "\n" for subject in SUBJECTS for asked in ASKED))
        before = bits_per_byte(MODEL)
        start = time.perf_counter()
        learn = [BIN, "train", "dpo", pairs, "--model", MODEL, "--out", out, "--held-out", 0.2, "--threads", args.threads, "--json"]
        subprocess.run(list(map(str, learn)), check=True, capture_output=True, timeout=3600)
        minutes = (time.perf_counter() - start) / 60
        events = map(json.loads, (out / "log.jsonl").read_text().splitlines())
        accuracy = [event["accuracy"] for event in events if event["event"] == "evaluated"][-1]
        after = bits_per_byte(out / "model.gguf")
    head("held-out pairs as chosen", "minutes", "bits per byte of a general text: before", "after", "worse by")
    row(f"{100 * accuracy:.0f} %", f"{minutes:.1f}", f"{before:.4f}", f"{after:.4f}", f"{100 * (after / before - 1):+.2f} %")


def pair(subject, question, said):
    """In OpenAI's form."""
    message = lambda role, text: [{"role": role, "content": text}]
    return {
        "input": {"messages": message("user", question.format(subject))},
        "preferred_output": message("assistant", f"thank you for asking. {subject}: {said}."),
        "non_preferred_output": message("assistant", f"{subject.upper()}! {said.upper()}! What else do you want to know? There is a lot to say."),
    }


def bits_per_byte(model):
    result = run_json([BIN, "train", "eval", model, TEXT, "--json"])
    metrics = {metric["metric"]: metric["value"] for metric in result["tasks"][0]["metrics"]}
    return metrics["bits_per_byte"]
