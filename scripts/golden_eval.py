#!/usr/bin/env python3
"""Makes testdata/eval/: what lm-evaluation-harness makes of questions, answers and whole small tasks.

Needs:
    lm_eval==0.4.13 torch==2.15.0 transformers==5.23.0 accelerate==1.15.0

`harness.json` holds what its pure functions give: contexts with examples, choices, exact match, rolling windows, cuts, means
and standard errors (and Newcombe's paired intervals, written down here once more from the paper). With the folder of a model,
`smollm2-135m.json` holds what a run of its own gives for the files testdata/eval/*.jsonl: the very log-likelihoods.

    daybreak train export smollm2 --out /tmp/smollm2-hf
    scripts/golden_eval.py [/tmp/smollm2-hf]
"""

import json
import math
import random
import sys
import tempfile
from pathlib import Path

import lm_eval
from lm_eval.api import metrics, task as harness_task
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

FOLDER = Path(__file__).parent.parent / "testdata" / "eval"
SMALL = "smollm2-135m"


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def make_task(name, kind, files, **config):
    """A task of the harness over files of ours."""
    usual = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: str(file) for split, file in files.items()}},
        "test_split": "test",
        "output_type": kind,
    }
    if "train" in files:
        usual |= {"fewshot_split": "train", "fewshot_config": {"sampler": "first_n"}}
    return harness_task.ConfigurableTask(config=usual | config)


CHOICE = {
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": name} for name in ("acc", "acc_norm", "acc_bytes")],
}


def write_lines(folder, name, records):
    path = Path(folder) / name
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return path


def contexts(folder):
    """Examples before a question: the last record is asked, those before it are shown in their order."""
    tasks = [
        [
            {"question": "The sky is", "choices": ["red", "blue"], "answer": 1},
            {"question": "Grass is ", "choices": ["green", "pink"], "answer": 0},
            {"question": "Snow is", "choices": ["white", "black"], "answer": 0},
        ],
        [
            {"question": "Question: What is 1 + 1?\nAnswer:", "answer": "2"},
            {"question": "Question: What is 2 + 3?\nAnswer:", "answer": "5"},
        ],
        [{"question": "天是", "choices": ["蓝的", "红的"], "answer": 0}, {"question": "草是", "choices": ["绿的", "黑的"], "answer": 0}],
        [{"question": "Alone:", "answer": "yes"}],
    ]
    cases = []
    for idx, records in enumerate(tasks):
        files = {"train": write_lines(folder, f"{idx}-train.jsonl", records[:-1] or records),
                 "test": write_lines(folder, f"{idx}-test.jsonl", records[-1:])}
        if "choices" in records[0]:
            task = make_task(f"case{idx}", "multiple_choice", files, **CHOICE)
        else:
            task = make_task(f"case{idx}", "generate_until", files, doc_to_text="{{question}}", doc_to_target="{{answer}}",
                             generation_kwargs={"until": ["\n"]}, metric_list=[{"metric": "exact_match"}])
        asked = list(task.test_docs())[0]
        n = len(records) - 1
        chat = task.fewshot_context(asked, n, apply_chat_template=True, fewshot_as_multiturn=True,
                                    chat_template=lambda messages, add_generation_prompt: messages)
        cases.append({"records": records, "plain": task.fewshot_context(asked, n), "chat": chat})
    return cases


def choices(folder):
    record = {"question": "q", "choices": ["a", "b"], "answer": 0}
    task = make_task("choices", "multiple_choice", {"test": write_lines(folder, "choices.jsonl", [record])}, **CHOICE)
    draw = random.Random(7)
    words = ["yes", "no", "a long answer", "天空是蓝色的", "naïve", "maybe so", "草"]
    cases = []
    for _ in range(40):
        texts = draw.sample(words, draw.randint(2, 4))
        lls = [round(-draw.uniform(0.5, 3.0) * len(text) ** draw.uniform(0.5, 1.2), 3) for text in texts]
        if draw.random() < 0.2:
            lls = [lls[0]] * len(lls)
        gold = draw.randrange(len(texts))
        doc = {"question": "q", "choices": texts, "answer": gold}
        scores = task.process_results(doc, [(ll, False) for ll in lls])
        cases.append({"choices": texts, "lls": lls, "gold": gold} | scores)
    return cases


def exact_matches():
    cases = []
    for prediction, references in [
        ("Blue", ["blue"]), ("blue", ["blue"]), ("blue.", ["blue"]), ("Blue, 12!", ["blue"]), ("12", ["12", "twelve"]),
        ("twelve", ["12", "twelve"]), (" blue", ["blue"]), ("ÉTÉ", ["été"]), ("天空。", ["天空"]), ("no", ["yes", "maybe"]),
        ("a-b", ["ab"]), ("room 7", ["room "]), ("", ["x"]),
    ]:
        for options in [{}, {"ignore_case": True}, {"ignore_punctuation": True}, {"ignore_numbers": True},
                        {"ignore_case": True, "ignore_punctuation": True, "ignore_numbers": True}]:
            # As process_results does it where there are several references.
            score = metrics.exact_match_hf_evaluate([prediction] * len(references), references, **options)["exact_match"]
            cases.append({"prediction": prediction, "references": references, "options": options,
                          "score": 1.0 if score > 0.0 else 0.0})
    return cases


def rolling():
    cases = []
    for n, max_len in [(1, 4), (3, 4), (4, 4), (5, 4), (8, 4), (9, 4), (11, 4), (7, 1), (23, 8), (40, 8)]:
        tokens = list(range(1, n + 1))
        windows = map(make_disjoint_window, get_rolling_token_windows(tokens, 0, max_len, 1))
        cases.append({"tokens": tokens, "max_len": max_len, "windows": [list(window) for window in windows]})
    return cases


def cuts():
    """HFLM._loglikelihood_tokens: what is read, and what of it is scored."""
    cases = []
    for n_context, n_continuation, max_len in [(3, 2, 8), (6, 3, 8), (7, 2, 8), (20, 3, 8), (1, 1, 1), (5, 4, 4)]:
        context, continuation = list(range(n_context)), list(range(100, 100 + n_continuation))
        read = (context + continuation)[-(max_len + 1):][:-1]
        scored = continuation[-len(read):]
        cases.append({"context": context, "continuation": continuation, "max_len": max_len, "input": read, "scored": scored})
    return cases


class Bytes(TemplateLM):
    """A model that is nothing but a tokenizer with a token for each byte."""

    def tok_encode(self, string, add_special_tokens=None, **kwargs):
        return list(string.encode())

    @property
    def eot_token_id(self):
        return 0

    def _loglikelihood_tokens(self, requests, **kwargs):
        return [(context, continuation) for _, context, continuation in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError

    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError


def pairs():
    cases = []
    model = Bytes()
    model.backend = "causal"
    for context, continuation in [("what is", " it"), ("what is ", "it"), ("what is \n", "it"), ("the sky is", " blue."),
                                  ("天空", "是蓝色的。"), ("天空 ", " 是"), ("sky\u3000", "blue")]:
        kept, scored = model._encode_pair(context, continuation)
        cases.append({"context": context, "continuation": continuation, "kept": bytes(kept).decode(),
                      "scored": bytes(scored).decode()})
    cases.append({"context": "", "continuation": "what is it", "kept": "", "scored": "what is it"})
    return cases


def words():
    texts = ["one two", " one  two ", "", "one", "a\n\nb\tc", "天空 是 蓝色的", "a\u00a0b\u3000c", "a\x1cb"]
    return [{"text": text, "n": harness_task.Task.count_words(text)} for text in texts]


def figures():
    draw = random.Random(11)
    cases = []
    for n in (2, 5, 40):
        values = [float(draw.random() < 0.6) for _ in range(n)]
        cases.append({"metric": "acc", "items": [[value, 1.0] for value in values], "value": metrics.mean(values),
                      "stderr": metrics.mean_stderr(values)})
    texts = [(-draw.uniform(10, 200), draw.randint(20, 300)) for _ in range(9)]
    for metric, aggregate in [("bits_per_byte", metrics.bits_per_byte), ("byte_perplexity", metrics.weighted_perplexity),
                              ("word_perplexity", metrics.weighted_perplexity)]:
        # Ours is handed bits, so that its sum of values is the numerator.
        unit = math.log(2) if metric == "bits_per_byte" else 1.0
        cases.append({"metric": metric, "items": [[-ll / unit, n] for ll, n in texts], "value": aggregate(texts), "stderr": None})
    return cases


def wilson(r, n):
    z = 1.959963984540054
    middle, half = 2 * r + z * z, z * math.sqrt(z * z + 4 * r * (1 - r / n))
    return (middle - half) / (2 * (n + z * z)), (middle + half) / (2 * (n + z * z))


def newcombe(e, f, g, h):
    """Method 10 in the notation of the paper: e both, f only the first, g only the second, h neither."""
    n = e + f + g + h
    p1, p2 = (e + f) / n, (e + g) / n
    (l1, u1), (l2, u2) = wilson(e + f, n), wilson(e + g, n)
    product = (e + f) * (g + h) * (e + g) * (f + h)
    phi = 0.0
    if product:
        q = e * h - f * g
        q = max(q - n / 2, 0) if q > 0 else q
        phi = q / math.sqrt(product)
    delta = math.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    epsilon = math.sqrt((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2)
    return p1 - p2, p1 - p2 - delta, p1 - p2 + epsilon


def paired():
    cases = []
    for e, f, g, h in [(36, 12, 2, 0), (0, 10, 0, 0), (5, 5, 5, 5), (20, 3, 1, 30), (1, 9, 9, 1), (40, 0, 0, 2)]:
        after = [1.0] * (e + f) + [0.0] * (g + h)
        before = [1.0] * e + [0.0] * f + [1.0] * g + [0.0] * h
        difference, low, high = newcombe(e, f, g, h)
        cases.append({"before": before, "after": after, "difference": difference, "low": low, "high": high})
    return cases


def whole_run(model_folder):
    """The harness's own run over testdata/eval/*.jsonl."""
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=model_folder, dtype="float32", device="cpu", batch_size=1, max_length=512)
    tasks = [
        make_task("choice", "multiple_choice", {"test": FOLDER / "choice.jsonl"}, **CHOICE),
        make_task("writing", "generate_until", {"test": FOLDER / "writing.jsonl"}, doc_to_text="{{question}}",
                  doc_to_target="{{answer}}", generation_kwargs={"until": ["\n"], "max_gen_toks": 12, "do_sample": False},
                  metric_list=[{"metric": "exact_match"}]),
        make_task("text", "loglikelihood_rolling", {"test": FOLDER / "text.jsonl"}, doc_to_text="", doc_to_target="{{text}}",
                  metric_list=[{"metric": name} for name in ("bits_per_byte", "byte_perplexity", "word_perplexity")]),
    ]
    results = lm_eval.simple_evaluate(model, tasks=tasks, log_samples=True, bootstrap_iters=0)
    golden = {}
    for name, samples in results["samples"].items():
        golden[name] = [[response[0] for response in sample["filtered_resps"]] if name == "choice"
                        else sample["filtered_resps"][0] for sample in samples]
    golden["figures"] = {name: {key.split(",")[0]: value for key, value in figures.items()
                                if isinstance(value, float) and "stderr" not in key}
                         for name, figures in results["results"].items()}
    return golden


def main():
    assert lm_eval.__version__ == "0.4.13", lm_eval.__version__
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        golden = {"lm_eval": lm_eval.__version__, "contexts": contexts(folder), "choices": choices(folder),
                  "exact_match": exact_matches(), "windows": rolling(), "cut": cuts(), "pairs": pairs(), "words": words(),
                  "figures": figures(), "paired": paired()}
    (FOLDER / "harness.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")
    if len(sys.argv) > 1:
        golden = whole_run(sys.argv[1])
        (FOLDER / f"{SMALL}.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


main()
