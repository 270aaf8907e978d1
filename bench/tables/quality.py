"""A model of depth 4 (vocabulary 8,192, sequences of 512) pretrained from the manual pages of this machine (or `--text`) by us and by PyTorch, compiled: the same tokens, parameters, steps and tokens in a step, and in every round other first weights and another order. Bits per byte are those of pages that none has seen, all by `daybreak train eval`, medians with the least and the most; the time is that of the steps alone. As is usual is done once."""

import gzip
import json
import statistics
import sys
import tempfile
from pathlib import Path

from ours import BIN, run_json
from tables.bpe import MANUAL
from tables.common import head, row, run_torch

MAX_BYTES = 40_000_000
MAX_TEST_BYTES = 400_000
SHAPE = ["--depth", 4, "--vocab-size", 8192, "--seq-len", 512, "--step-tokens", 8192]


OURS, SAME, USUAL = "daybreak", "PyTorch, the same optimiser", "PyTorch, AdamW and GPT-2's first weights"


def run(args):
    found = {name: [] for name in (OURS, SAME, USUAL)}
    with tempfile.TemporaryDirectory(prefix="daybreak-quality-") as folder:
        folder = Path(folder)
        train, test = split(args.text, folder)
        for seed in range(args.rounds):
            one_round(args, train, test, folder / str(seed), seed, found)
    head("", "bits per byte", "worse than daybreak's", "seconds", "daybreak's time to as good a model", "of its time")
    ours = [course for _, course in found[OURS]]
    median_of = lambda name: statistics.median(bits for bits, _ in found[name])
    for name, rounds in found.items():
        bits = [bits for bits, _ in rounds]
        seconds = statistics.median(course[-1]["seconds"] for _, course in rounds)
        ends = [course[-1]["bits_per_byte"] for _, course in rounds]
        to_it = [time_to(course, end) for course, end in zip(ours, ends)]
        to_it = statistics.median(to_it) if None not in to_it else None
        row(
            name, f"{median_of(name):.4f} ({min(bits):.4f} to {max(bits):.4f})",
            "" if name == OURS else f"{100 * (median_of(name) / median_of(OURS) - 1):+.2f} %",
            f"{seconds:,.0f}", f"{to_it:,.0f}" if to_it else "not reached", f"{to_it / seconds:.2f}×" if to_it else "",
        )
    print("\nheld-out bits per byte on the way (each side's own measure), first round: ")
    for name, rounds in found.items():
        print(f"- {name}: " + ", ".join(f"{at['bits_per_byte']:.3f} after {at['seconds']:,.0f} s" for at in rounds[0][1]))


def one_round(args, train, test, folder, seed, found):
    run_folder = folder / "ours"
    threads = ["--threads", args.threads]
    ours = [BIN, "train", "pretrain", train, "--out", run_folder, *SHAPE, "--tokens", args.tokens, "--type", "f32", "--seed", seed, *threads]
    run_json([*ours, "--json"], timeout=7200)
    found[OURS].append((bits_per_byte(run_folder / "model.gguf", test), our_course(run_folder)))
    for recipe, name in (("same", SAME), ("usual", USUAL)):
        if recipe == "usual" and seed > 0:
            continue
        file = folder / f"{recipe}.gguf"
        done = run_torch("torch_pretrain.py", run_folder, file, "--recipe", recipe, "--seed", seed, *threads, timeout=7200)
        found[name].append((bits_per_byte(file, test), done["evaluations"]))


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
