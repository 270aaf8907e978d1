"""PyTorch pretraining the model of a run of ours from the same tokens: same parameters, steps, tokens in a step and course of
the rates; with the same optimiser (Muon for the matrices of layers) and first weights, or as is usual (AdamW, normal first
weights, cosine). Writes a copy of the run's model with its own weights and prints one JSON object: after how many seconds
of training the held-out text was how well predicted.

    python bench/torch_pretrain.py RUN OUT.gguf --recipe same
"""

import argparse
import contextlib
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from gguf import GGUFReader
from torch import nn

import torch_peer
from torch_peer import Gpt, peak_memory

N_EVALUATIONS = 10


class Block(torch_peer.Block):
    """Each matrix is a parameter of its own, as an optimiser wants that looks at them whole; they are still multiplied
    together."""

    def __init__(self, n_embd, n_heads, n_kv_heads, n_ff):
        super().__init__(n_embd, n_heads, n_kv_heads, n_ff)
        del self.qkv, self.gate_up
        linear = lambda n: nn.Linear(n_embd, n, bias=False)
        self.attn_q, self.attn_k, self.attn_v = map(linear, self.split)
        self.ffn_gate, self.ffn_up = linear(n_ff), linear(n_ff)

    def qkv(self, x):
        return F.linear(x, torch.cat((self.attn_q.weight, self.attn_k.weight, self.attn_v.weight)))

    def gate_up(self, x):
        return F.linear(x, torch.cat((self.ffn_gate.weight, self.ffn_up.weight)))


def model_of(gguf, seq_len):
    """Of the shape that a file tells."""
    said = lambda key: gguf.fields[f"qwen3.{key}"].contents()
    n_embd = said("embedding_length")
    shape = (n_embd, said("attention.head_count"), said("attention.head_count_kv"), said("feed_forward_length"))
    vocab_size = next(int(tensor.shape[1]) for tensor in gguf.tensors if tensor.name == "token_embd.weight")
    blocks = [Block(*shape) for _ in range(said("block_count"))]
    return Gpt(vocab_size, n_embd, blocks, seq_len, said("rope.freq_base"))


def start(model, recipe):
    """First weights: as ours (crates/trainer/src/initial.rs), or as GPT-2's."""
    n_layers = len(model.blk)
    for name, weights in model.named_parameters():
        if weights.dim() == 1:
            continue
        is_last = name.endswith(("attn_output.weight", "ffn_down.weight"))
        if recipe == "same":
            deviation = 0.0 if is_last else {"token_embd.weight": 0.5, "output.weight": 0.002}.get(name, weights.shape[1] ** -0.5)
        else:
            deviation = 0.02 / math.sqrt(2 * n_layers) if is_last else 0.02
        nn.init.normal_(weights, std=deviation)


def optimizers(model, recipe, settings):
    """With the rate of each group."""
    named = dict(model.named_parameters())
    if recipe == "usual":
        wide = [weights for weights in named.values() if weights.dim() == 2]
        narrow = [weights for weights in named.values() if weights.dim() == 1]
        groups = [{"params": wide, "weight_decay": 0.1}, {"params": narrow, "weight_decay": 0.0}]
        return [torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)]
    matrices = [weights for name, weights in named.items() if name.startswith("blk.") and weights.dim() == 2]
    norms = [weights for weights in named.values() if weights.dim() == 1]
    adamw = torch.optim.AdamW(
        [
            {"params": [named["token_embd.weight"]], "lr": settings["embedding_lr"]},
            {"params": [named["output.weight"]], "lr": settings["output_lr"]},
            {"params": norms, "lr": settings["lr"], "weight_decay": 0.0},
        ],
        betas=(settings["beta1"], settings["beta2"]), eps=settings["eps"], weight_decay=settings["weight_decay"], fused=True,
    )
    muon = torch.optim.Muon(
        matrices, lr=settings["muon_lr"], momentum=settings["momentum"], weight_decay=settings["weight_decay"], nesterov=True,
        adjust_lr_fn="match_rms_adamw",
    )
    return [adamw, muon]


def rate(step, recipe, schedule, n_steps):
    """The factor of all rates."""
    n_warmup = schedule["n_warmup"]
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    if recipe == "usual":
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)))
    return min(1.0, (n_steps - step) / max(1.0, n_steps * schedule["decay_share"]))


class Tokens:
    """A file of tokens (crates/trainer/src/data/token_file.rs)."""

    def __init__(self, path):
        head = np.fromfile(path, dtype="<u4", count=16)
        n_tokens, n_bytes = (int(np.fromfile(path, dtype="<u8", count=1, offset=at)[0]) for at in (16, 32))
        kind = "<u2" if head[3] == 2 else "<u4"
        self.n_bytes = n_bytes
        self.ids = torch.from_numpy(np.fromfile(path, dtype=kind, count=n_tokens, offset=64).astype(np.int64))

    def windows(self, seq_len):
        """All of it in pieces, each with the token that follows."""
        n = (len(self.ids) - 1) // seq_len
        return self.ids[: n * seq_len + 1].unfold(0, seq_len + 1, seq_len)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", choices=("same", "usual"), default="same")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--eager", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    run = json.loads((args.run / "run.json").read_text())
    settings, schedule = run["settings"], run["settings"]["schedule"]
    seq_len, n_batches, n_steps = settings["seq_len"], settings["n_batches"], settings["n_steps"]
    n_rows = settings["batch_rows"] // seq_len
    shutil.copyfile(args.run / "model.gguf", args.out)
    gguf = GGUFReader(args.out, "r+")
    model = model_of(gguf, seq_len)
    start(model, args.recipe)
    found = optimizers(model, args.recipe, settings["optimizer"])
    groups = [group for optimizer in found for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    compiled = model if args.eager else torch.compile(model)
    is_bf16 = settings["products"] == "bf16"
    cast = torch.autocast("cpu", torch.bfloat16) if is_bf16 else contextlib.nullcontext()
    train = Tokens(args.run / "data" / "train-0.tokens").windows(seq_len)
    held_out = Tokens(args.run / "data" / "held-out-0.tokens")

    def loss_of(windows):
        with cast:
            return compiled(windows[:, :-1], windows[:, 1:])

    def bits_per_byte():
        windows = held_out.windows(seq_len)[: settings["eval_rows"] // seq_len]
        windows = windows[: len(windows) // n_rows * n_rows]
        with torch.no_grad():
            nats = sum(loss_of(part).item() for part in windows.split(n_rows)) / (len(windows) // n_rows)
        return nats / math.log(2) * len(held_out.ids) / held_out.n_bytes

    # Compiled before the clock runs, as ours is.
    loss_of(train[:n_rows]).backward()
    for optimizer in found:
        optimizer.zero_grad(set_to_none=True)
    bits_per_byte()
    seconds, evaluations, order, at = 0.0, [], torch.randperm(len(train)), 0
    for step in range(n_steps):
        begin = time.perf_counter()
        for group, full in zip(groups, rates):
            group["lr"] = full * rate(step, args.recipe, schedule, n_steps)
        for _ in range(n_batches):
            if at + n_rows > len(order):
                order, at = torch.randperm(len(train)), 0
            (loss_of(train[order[at : at + n_rows]]) / n_batches).backward()
            at += n_rows
        if settings["clip"]:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip"])
        for optimizer in found:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seconds += time.perf_counter() - begin
        if (step + 1) % -(-n_steps // N_EVALUATIONS) == 0 or step + 1 == n_steps:
            evaluations.append({"step": step + 1, "seconds": seconds, "bits_per_byte": bits_per_byte()})
    weights = dict(model.named_parameters())
    for tensor in gguf.tensors:
        of_tensor = weights[tensor.name].detach().numpy().astype(np.float32)
        tensor.data[:] = of_tensor.reshape(tensor.data.shape)
    gguf.data.flush()
    print(json.dumps({
        "evaluations": evaluations,
        "tokens_per_second": n_steps * n_batches * n_rows * seq_len / seconds,
        "seconds": seconds,
        "peak_memory_bytes": peak_memory(),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__,
    }))


if __name__ == "__main__":
    main()
