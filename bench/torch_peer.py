"""PyTorch training the same GPT: a step is forward, loss, backward, AdamW. Prints one JSON object.

    python bench/torch_peer.py --depth 4 --vocab-size 8192 --products bf16
"""

import argparse
import contextlib
import json
import time

import torch
import torch.nn.functional as F
from torch import nn

HEAD_DIM = 64


class Norm(nn.Module):
    """In single precision also where autocast hands it halves, so that the compiler fuses it."""

    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x):
        return F.rms_norm(x.float(), self.weight.shape, self.weight, 1e-6)


class Block(nn.Module):
    """Pre-norm attention with norms on each head's queries and keys, and a gated feed-forward network (Qwen 3). What is named
    is named as the tensors of a GGUF file are; products that share their left side are one."""

    def __init__(self, n_embd, n_heads, n_kv_heads, n_ff):
        super().__init__()
        self.n_heads, self.n_kv_heads = n_heads, n_kv_heads
        q_dim, k_dim = n_heads * HEAD_DIM, n_kv_heads * HEAD_DIM
        self.split = (q_dim, k_dim, k_dim)
        self.attn_norm, self.ffn_norm = Norm(n_embd), Norm(n_embd)
        self.attn_q_norm, self.attn_k_norm = Norm(HEAD_DIM), Norm(HEAD_DIM)
        self.qkv = nn.Linear(n_embd, sum(self.split), bias=False)
        self.attn_output = nn.Linear(q_dim, n_embd, bias=False)
        self.gate_up = nn.Linear(n_embd, 2 * n_ff, bias=False)
        self.ffn_down = nn.Linear(n_ff, n_embd, bias=False)

    def forward(self, x, cos, sin):
        n, seq_len, _ = x.shape
        q, k, v = self.qkv(self.attn_norm(x)).split(self.split, dim=-1)
        q = rotate(self.attn_q_norm(q.view(n, seq_len, self.n_heads, HEAD_DIM)), cos, sin).transpose(1, 2)
        k = rotate(self.attn_k_norm(k.view(n, seq_len, self.n_kv_heads, HEAD_DIM)), cos, sin).transpose(1, 2)
        v = v.view(n, seq_len, self.n_kv_heads, HEAD_DIM).transpose(1, 2)
        q, k = q.to(v.dtype), k.to(v.dtype)
        gqa = self.n_heads != self.n_kv_heads
        attn = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=gqa)
        x = x + self.attn_output(attn.transpose(1, 2).reshape(n, seq_len, -1))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.ffn_down(F.silu(gate) * up)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Gpt(nn.Module):
    def __init__(self, vocab_size, n_embd, blocks, seq_len, rope_theta=10000.0):
        super().__init__()
        self.token_embd = nn.Embedding(vocab_size, n_embd)
        self.blk = nn.ModuleList(blocks)
        self.output_norm = Norm(n_embd)
        self.output = nn.Linear(n_embd, vocab_size, bias=False)
        frequencies = rope_theta ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        angles = torch.arange(seq_len)[:, None] * frequencies[None]
        self.register_buffer("cos", angles.cos()[:, None])
        self.register_buffer("sin", angles.sin()[:, None])

    def forward(self, tokens, targets):
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, self.cos, self.sin)
        logits = self.output(self.output_norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.reshape(-1))


def peak_memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def report(step, warm_up, n_steps, n_tokens, parameters):
    """Times steps of so many tokens, which give their loss, and prints what came of it."""
    for _ in range(warm_up):
        step()
    times = []
    for _ in range(n_steps):
        start = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - start)
    times.sort()
    print(json.dumps({
        "tokens_per_second": n_tokens / times[len(times) // 2],
        "best_tokens_per_second": n_tokens / times[0],
        "peak_memory_bytes": peak_memory(),
        "n_parameters": sum(p.numel() for p in parameters),
        "loss": loss,
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--kv-heads", type=int)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--products", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--eager", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    n_embd = HEAD_DIM * args.depth
    n_ff = -(-(8 * n_embd // 3) // 64) * 64
    blocks = [Block(n_embd, args.depth, args.kv_heads or args.depth, n_ff) for _ in range(args.depth)]
    model = Gpt(args.vocab_size, n_embd, blocks, args.seq_len)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    step_model = model if args.eager else torch.compile(model)
    is_bf16 = args.products == "bf16"
    cast = torch.autocast("cpu", torch.bfloat16) if is_bf16 else contextlib.nullcontext()

    def step():
        tokens = torch.randint(args.vocab_size, (args.batch, args.seq_len + 1))
        with cast:
            loss = step_model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    report(step, 2, args.steps, args.batch * args.seq_len, model.parameters())


if __name__ == "__main__":
    main()
