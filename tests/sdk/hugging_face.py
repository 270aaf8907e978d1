"""Models that daybreak exported, in `transformers`: they give the log-probabilities that they must give, and chat.

bash tests/sdk/hugging_face.sh runs this, as `make test-long` does; DAYBREAK_BIN is the binary.
"""

import json
import math
import os
import pathlib
import struct
import subprocess
import tempfile
import unittest

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

BIN = os.environ["DAYBREAK_BIN"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "testdata/golden-models"
# transformers against itself, with weights that went through both formats: what is left is the rounding of norms.
TOLERANCE = 1e-4
NOT_EXPORTED = {"gpt2": "a gpt2 model with learned positions"}


def expected(path):
    """The token ids and `[n_tokens, vocab_size]` log-probabilities of a file whose format golden-models/README.md tells."""
    data = path.read_bytes()
    magic, n_tokens, vocab_size, _, _ = struct.unpack_from("<8sIIIf", data)
    assert magic == b"DAYGOLD1", path
    numbers = numpy.frombuffer(data, "<f4", n_tokens * vocab_size, 24 + 4 * n_tokens)
    return numpy.frombuffer(data, "<u4", n_tokens, 24).tolist(), numbers.reshape(n_tokens, vocab_size)


def export(name, folder, dtype="f32"):
    command = [BIN, "train", "export", GOLDEN / f"{name}-f32.gguf", "--out", folder, "--type", dtype]
    return subprocess.run(command, capture_output=True, check=False, text=True)


def load(folder):
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    return model.eval(), {kind: names for kind, names in report.items() if names}


class HuggingFace(unittest.TestCase):
    def exported(self, name, folder, dtype="f32"):
        done = export(name, folder, dtype)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("the tokenizer is left out", done.stderr)
        model, report = load(folder)
        self.assertEqual(report, {}, "tensors that are missing, unexpected or of another shape")
        return model

    def test_log_probabilities_are_equal(self):
        names = sorted(path.name.removesuffix("-f32.gguf") for path in GOLDEN.glob("*-f32.gguf"))
        self.assertGreaterEqual(len(names), 18)
        for name in names:
            if name in NOT_EXPORTED:
                continue
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                model = self.exported(name, folder)
                self.assertEqual(model.dtype, torch.float32)
                runs = sorted(GOLDEN.glob(f"{name}.expected")) + sorted(GOLDEN.glob(f"{name}.*.expected"))
                self.assertTrue(runs)
                for run in runs:
                    self.compare(model, run)
                # What older versions and other programs read says the same. Version 5 takes an old configuration's
                # rope_theta for only one of the two kinds of layers of an OLMo 3.
                if name == "olmo3":
                    continue
                config = json.loads(pathlib.Path(folder, "config.json").read_text())
                del config["rope_parameters"], config["dtype"]
                pathlib.Path(folder, "config.json").write_text(json.dumps(config))
                for run in runs:
                    self.compare(load(folder)[0], run)

    def compare(self, model, run):
        ids, theirs = expected(run)
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0]
        ours = torch.log_softmax(logits.to(torch.float32), dim=-1).numpy()
        difference = float(abs(ours - theirs).max())
        print(f"{run.stem:24} {type(model).__name__:22} {difference:.1e}")
        self.assertTrue(math.isfinite(difference) and difference <= TOLERANCE, (run.stem, difference))

    def test_half_as_long_numbers_are_rounded_ones(self):
        for name in ("llama", "qwen3", "gemma3"):
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                whole = self.exported(name, f"{folder}/f32").state_dict()
                for dtype in ("bf16", "f16"):
                    model = self.exported(name, f"{folder}/{dtype}", dtype)
                    self.assertEqual(model.dtype, {"bf16": torch.bfloat16, "f16": torch.float16}[dtype])
                    for key, tensor in model.state_dict().items():
                        self.assertTrue(torch.equal(tensor, whole[key].to(model.dtype)), (key, dtype))

    def test_a_real_model_predicts_and_chats(self):
        name, question = "smollm2:135m", "What is the capital of France?"
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([BIN, "train", "export", name, "--out", folder], check=True, capture_output=True)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model, report = load(folder)
        self.assertEqual(report, {})
        self.compare_perplexity(name, tokenizer, model)

        chat = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        spelled = tokenizer.decode(prompt["input_ids"][0])
        self.assertTrue(spelled.endswith(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"), spelled)
        answer = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        self.assertEqual(int(answer[-1]), tokenizer.eos_token_id, "the answer ends")
        self.assertIn("Paris", tokenizer.decode(answer, skip_special_tokens=True))

    def compare_perplexity(self, name, tokenizer, model):
        """By the rule of `daybreak perplexity`, whose activations have eight bits where these have 32."""
        n_windows, ctx, text = 4, 256, ROOT / "testdata/perplexity/text.txt"
        command = [BIN, "perplexity", name, text, "--ctx", str(ctx), "--chunks", str(n_windows), "--json"]
        report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        ids = tokenizer.encode(text.read_text(), add_special_tokens=False)
        windows = torch.tensor(ids[: n_windows * ctx]).view(n_windows, ctx)
        with torch.no_grad():
            log_probs = torch.log_softmax(model(windows).logits[:, ctx // 2 : -1], dim=-1)
        found = log_probs.gather(-1, windows[:, ctx // 2 + 1 :, None])
        self.assertEqual(found.numel(), report["tokens_predicted"])
        theirs, ours = float(torch.exp(-found.mean())), report["perplexity"]["value"]
        print(f"{name:24} perplexity {ours:.3f}, in transformers {theirs:.3f}")
        self.assertLess(abs(theirs / ours - 1), 0.01)

    def test_what_transformers_cannot_say_is_refused(self):
        for name, reason in NOT_EXPORTED.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                done = export(name, folder)
                self.assertEqual(done.returncode, 1)
                self.assertIn(reason, done.stderr)
                self.assertEqual(os.listdir(folder), [])


if __name__ == "__main__":
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    unittest.main(verbosity=2)
