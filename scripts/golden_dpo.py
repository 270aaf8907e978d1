#!/usr/bin/env python3
"""Makes testdata/golden-models/dpo.json: ten steps from preferences, by `trl`'s DPOTrainer.

Needs (see testdata/golden-models/README.md):
    torch==2.15.0 transformers==5.23.0 gguf==0.19.0 numpy==2.4.6 peft==0.21.2 trl==1.16.0 datasets==5.2.0

The tiny golden models learn four pairs, all in each step, in f32, with the optimiser of scripts/golden_steps.py; the last
case learns the adapter of scripts/golden_lora.py. Of each step the file holds what the trainer says of the weights before
it: loss, gradient's length, mean log-probabilities, mean margin of rewards; and at the end what it says of two pairs that
it did not learn.

    scripts/golden_dpo.py
"""

import copy
import json
import string
import tempfile

import golden_steps

import datasets
import tokenizers
import torch
import transformers
import trl

import golden_lora
import golden_models as golden

BETA = 0.15
N_PAIRS, N_HELD_OUT = 4, 2
# (file, matrices of the adapter or none)
CASES = [(f"{name}-f32", None) for name in ("llama", "qwen2", "qwen3", "gemma3", "granite")] + [("qwen2-f32", "all")]
EOS = 1


def words():
    """A character for each of the 64 ids."""
    characters = (string.ascii_letters + string.digits + "+/")[: golden.VOCAB]
    vocabulary = {character: i for i, character in enumerate(characters)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=characters[0]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    return characters, transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=characters[EOS], pad_token=characters[0]
    )


def pairs(characters):
    """Prompts and answers of many lengths; `trl` ends each answer with EOS."""
    def text(name, n):
        return "".join(characters[EOS + 1 :][id] for id in golden.tokens_for(name, n, golden.VOCAB - EOS - 1))
    return [
        {"prompt": text(f"prompt {i}", 3 + 2 * i), "chosen": text(f"chosen {i}", 9 - i), "rejected": text(f"rejected {i}", 4 + i)}
        for i in range(N_PAIRS + N_HELD_OUT)
    ]


def numbers(tokenizer, pair):
    """What `trl` makes of a pair."""
    ids = {key: tokenizer(text)["input_ids"] for key, text in pair.items()}
    return {"prompt": ids["prompt"], "chosen": ids["chosen"] + [EOS], "rejected": ids["rejected"] + [EOS]}


def steps(file, targets, tokenizer, data):
    _, case, model = golden_lora.load(file)
    reference = None
    if targets:
        # `trl` keeps a copy of the adapter as it was.
        model = golden_lora.with_adapter(model, case, targets)
    else:
        reference = copy.deepcopy(model)
    optimizer = golden_steps.adamw(model)
    with tempfile.TemporaryDirectory() as folder:
        config = trl.DPOConfig(
            output_dir=folder, beta=BETA, loss_type=["sigmoid"], max_steps=golden_steps.STEPS, logging_steps=1,
            per_device_train_batch_size=N_PAIRS, per_device_eval_batch_size=N_HELD_OUT, max_grad_norm=0.0,
            bf16=False, gradient_checkpointing=False, use_cpu=True, save_strategy="no", report_to="none",
            disable_tqdm=True,
        )
        trainer = trl.DPOTrainer(
            model=model, ref_model=reference, args=config, processing_class=tokenizer,
            train_dataset=datasets.Dataset.from_list(data[:N_PAIRS]),
            eval_dataset=datasets.Dataset.from_list(data[N_PAIRS:]),
            optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)),
        )
        found = [numbers(tokenizer, pair) for pair in data[:N_PAIRS]]
        kept = [{key: row[f"{key}_ids"] for key in found[0]} for row in trainer.train_dataset]
        assert found == kept, f"trl learns {kept}"
        trainer.train()
        held_out = trainer.evaluate()
    of = ("loss", "grad_norm", "logps/chosen", "logps/rejected", "rewards/margins")
    told = [{key: log[key] for key in of} for log in trainer.state.log_history if "loss" in log]
    assert len(told) == golden_steps.STEPS
    of = ("eval_loss", "eval_rewards/accuracies")
    print(f"{file} {targets}: {told[0]['loss']:.4f} → {told[-1]['loss']:.4f}, {[held_out[key] for key in of]}")
    return {"steps": told, "held_out": {key.removeprefix("eval_"): held_out[key] for key in of}}


def main():
    characters, tokenizer = words()
    data = pairs(characters)
    result = {
        "beta": BETA,
        "n_held_out": N_HELD_OUT,
        "pairs": [numbers(tokenizer, pair) for pair in data],
        "cases": {f"{file} {targets or ''}".strip(): steps(file, targets, tokenizer, data) for file, targets in CASES},
    }
    text = json.dumps(result, separators=(",", ":")).replace('},"', '},\n"').replace("},{", "},\n{")
    (golden.OUT / "dpo.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
