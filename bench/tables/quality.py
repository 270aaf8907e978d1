"""A model of depth 4 (vocabulary 8,192, sequences of 512) pretrained from the manual pages of this machine (or `--text`) by us and by PyTorch, compiled: the same tokens, parameters, steps and tokens in a step. Bits per byte are those of pages that none has seen, all by `daybreak train eval`; the time is that of the steps alone."""

import gzip
import json
import sys
import tempfile
from pathlib import Path

from ours import BIN, run_json
from tables.bpe import MANUAL
from tables.common import head, row, run_torch

MAX_BYTES = 40_000_000
MAX_TEST_BYTES = 400_000
SHAPE = ["--depth", 4, "--vocab-size", 8192, "--seq-len", 512, "--step-tokens", 8192]


def run(args):
    with tempfile.TemporaryDirectory(prefix="daybreak-quality-") as folder:
        folder = Path(folder)
        train, test = split(args.text, folder)
        run_folder = folder / "ours"
        threads = ["--threads", args.threads]
        ours = [BIN, "train", "pretrain", train, "--out", run_folder, *SHAPE, "--tokens", args.tokens, "--type", "f32", *threads]
        run_json([*ours, "--json"], timeout=7200)
        files = {"daybreak": run_folder / "model.gguf"}
        courses = {"daybreak": our_course(run_folder)}
        for recipe, name in (("same", "PyTorch, the same optimiser"), ("usual", "PyTorch, AdamW and GPT-2's first weights")):
            files[name] = folder / f"{recipe}.gguf"
            done = run_torch("torch_pretrain.py", run_folder, files[name], "--recipe", recipe, *threads, timeout=7200)
            courses[name] = done["evaluations"]
        bits = {name: bits_per_byte(file, test) for name, file in files.items()}
        head("", "bits per byte", "worse than daybreak's", "seconds", "daybreak's time to as good a model", "of its time")
        for name, course in courses.items():
            seconds = course[-1]["seconds"]
            to_it = time_to(courses["daybreak"], course[-1]["bits_per_byte"])
            row(
                name, f"{bits[name]:.4f}", "" if name == "daybreak" else f"{100 * (bits[name] / bits['daybreak'] - 1):+.2f} %",
                f"{seconds:,.0f}", f"{to_it:,.0f}" if to_it else "not reached", f"{to_it / seconds:.2f}×" if to_it else "",
            )
        print("\nheld-out bits per byte on the way (each side's own measure): ")
        for name, course in courses.items():
            print(f"- {name}: " + ", ".join(f"{at['bits_per_byte']:.3f} after {at['seconds']:,.0f} s" for at in course))


def our_course(folder):
    """Seconds of the steps alone, and what was measured between them."""
    course, seconds, n_tokens = [], 0.0, 0.0
    for line in (folder / "log.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "step":
            # The log's own clock runs on while held-out text is read and samples are written.
            seconds += (event["n_tokens"] - n_tokens) / event["tokens_per_second"]
            n_tokens = event["n_tokens"]
        elif event["event"] == "evaluated" and event["step"] > 0:
            course.append({"step": event["step"], "seconds": seconds, "bits_per_byte": event["bits_per_byte"]})
    return course


def time_to(course, bits):
    """When a course reaches so many bits per byte, between what was measured."""
    for a, b in zip(course, course[1:]):
        if b["bits_per_byte"] <= bits:
            share = (a["bits_per_byte"] - bits) / (a["bits_per_byte"] - b["bits_per_byte"])
            return a["seconds"] + max(0.0, share) * (b["seconds"] - a["seconds"])
    return None


def bits_per_byte(model, test):
    result = run_json([BIN, "train", "eval", model, test, "--json"], timeout=3600)
    metrics = {metric["metric"]: metric["value"] for metric in result["tasks"][0]["metrics"]}
    return metrics["bits_per_byte"]


def split(text, folder):
    """What is learnt from, and what is asked: pages of the manual, or the end of a text."""
    train, test = folder / "train.jsonl", folder / "test.jsonl"
    documents = manual_pages() if text is None else paragraphs(Path(text))
    n_bytes = n_test_bytes = 0
    with train.open("w") as learn, test.open("w") as ask:
        for i, document in enumerate(documents):
            size = len(document.encode())
            is_test = i % 40 == 0 and n_test_bytes < MAX_TEST_BYTES
            (ask if is_test else learn).write(json.dumps({"text": document}) + "\n")
            n_bytes, n_test_bytes = n_bytes + size, n_test_bytes + size * is_test
            if n_bytes > MAX_BYTES:
                break
    return train, test


def manual_pages():
    pages = sorted(MANUAL.glob("man*/*.gz")) or sys.exit(f"no manual pages under {MANUAL}: name a text with --text")
    return (gzip.open(page).read().decode("utf-8", "ignore") for page in pages)


def paragraphs(path):
    """Pieces of some thousand characters."""
    text = path.read_text(errors="ignore")
    return (text[at : at + 8000] for at in range(0, len(text), 8000))
