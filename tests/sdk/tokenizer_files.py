"""Vocabularies from daybreak, learnt or of a model, in Hugging Face's own `tokenizers`: the same ids.

bash tests/sdk/run.sh runs this; DAYBREAK_BIN is the binary.
"""

import os
import pathlib
import subprocess
import tempfile
import unittest

from tokenizers import Tokenizer

BIN = os.environ["DAYBREAK_BIN"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = "the engine's 2026 tokens,  naïve and cafe\u0301: 引擎写了2026个词，Python也一样。\r\n\n\tif x_1 != 'don’t':\n        return 😀\n"


class TokenizerFiles(unittest.TestCase):
    def test_ids_are_equal_for_every_way_to_cut_words(self):
        for pre in ("qwen2", "deepseek-coder", "deepseek-v3", "gpt-2", "smollm", "llama-bpe", "gpt-4o", "default"):
            with self.subTest(pre), tempfile.TemporaryDirectory() as folder:
                learn = ["train", "tokenizer", ROOT / "docs", ROOT / "README.md", ROOT / "testdata/tokenizers/training.txt"]
                self.daybreak(*learn, "--out", f"{folder}/out", "--vocab-size", "1500", "--pre", pre)
                theirs = Tokenizer.from_file(f"{folder}/out/tokenizer.json")
                self.assertEqual(theirs.get_vocab_size(), 1500)
                for text in (TEXT, (ROOT / "ARCHITECTURE.md").read_text(), "<|im_start|>user\nhi<|im_end|>"):
                    ours = self.daybreak("tokenize", f"{folder}/out/tokenizer.gguf", "--ids", "--special", stdin=text)
                    ids = theirs.encode(text).ids
                    self.assertEqual(ours.split(), [str(id) for id in ids])
                    if not theirs.normalizer:
                        self.assertEqual(theirs.decode(ids, skip_special_tokens=False), text)

    def test_ids_of_an_exported_model_are_its_own(self):
        model = "smollm2:135m"
        with tempfile.TemporaryDirectory() as folder:
            self.daybreak("train", "export", model, "--out", folder, "--type", "bf16")
            theirs = Tokenizer.from_file(f"{folder}/tokenizer.json")
            for text in (TEXT, (ROOT / "ARCHITECTURE.md").read_text(), "<|im_start|>user\nhi<|im_end|>"):
                ours = self.daybreak("tokenize", model, "--ids", "--special", stdin=text)
                ids = theirs.encode(text).ids
                self.assertEqual(ours.split(), [str(id) for id in ids])
                self.assertEqual(theirs.decode(ids, skip_special_tokens=False), text)
            self.assertEqual(theirs.decode(theirs.encode("<|im_start|>hi<|im_end|>").ids), "hi")

    def daybreak(self, *command, stdin=None):
        done = subprocess.run([BIN, *map(str, command)], input=stdin and stdin.encode(), capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout.decode()


if __name__ == "__main__":
    unittest.main(verbosity=2)
