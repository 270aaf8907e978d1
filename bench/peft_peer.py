"""`peft` training a LoRA of a model that `transformers` loads: a step is forward, loss, backward, AdamW. Prints one JSON object.

    python bench/peft_peer.py FOLDER --products bf16 --answer-share 0.333
"""

import argparse

import torch
from peft import LoraConfig, get_peft_model
from torch_peer import report
from transformers import AutoModelForCausalLM


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--lora", type=int, default=16)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--answer-share", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--products", choices=("bf16", "f32"), default="bf16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    dtype = torch.bfloat16 if args.products == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
    # peft keeps the adapter itself in single precision.
    model = get_peft_model(model, LoraConfig(r=args.lora, lora_alpha=2 * args.lora, target_modules="all-linear"))
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=1e-4, fused=True)
    vocab_size = model.config.vocab_size

    def step():
        tokens = torch.randint(vocab_size, (args.sequences, args.seq_len))
        labels = tokens.clone()
        labels[:, : int((1 - args.answer_share) * args.seq_len)] = -100
        loss = model(input_ids=tokens, labels=labels, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    report(step, 1, args.steps, args.sequences * args.seq_len, learnt)


main()
