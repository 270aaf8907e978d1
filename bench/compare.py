"""Us and the peers in one interleaved run, as Markdown tables (see bench/README.md)."""

import argparse
import importlib
import platform

from ours import CACHE, machine

TABLES = ("speed", "lengths", "streams", "http", "prefix", "reopen", "context", "arrival", "start", "memory", "busy", "beside", "lookup", "quantize", "bpe", "encode", "training", "lora", "quality", "preferences")
DEFAULT = ("speed", "start", "memory")


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--model", action="append", dest="files", help="GGUF file (default: both test models)")
    args.add_argument("--table", action="append", choices=[*TABLES, "all"], help=f"default: {', '.join(DEFAULT)}")
    args.add_argument("-p", type=int, default=512)
    args.add_argument("-n", type=int, default=128)
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--chunks", type=int, default=16, help="windows of 512 tokens for the divergences of `quantize`")
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--text", help="the text of `bpe` and `quality`, the documents (JSONL) of `encode` (default: the manual pages of this machine)")
    args.add_argument("--tokens", default="2M", help="how much `quality` learns from")
    args.add_argument("--no-openvino", dest="openvino", action="store_false", help="leave OpenVINO out")
    args = args.parse_args()
    args.files = args.files or [str(CACHE / "models" / name) for name in ("smollm2-135m.gguf", "qwen2.5-coder-0.5b.gguf")]
    tables = args.table or DEFAULT
    if "all" in tables:
        tables = TABLES

    peaks = machine(args.threads)
    print(f"{args.threads} threads, {args.rounds} rounds in turn, {platform.machine()} with {peaks['isa']}: ", end="")
    bf16 = peaks["bf16_gflop_per_second"]
    print(
        f"int8 {peaks['int8_gop_per_second']:,.0f} GOP/s, f32 {peaks['f32_gflop_per_second']:,.0f} GFLOP/s, "
        f"bf16 {f'{bf16:,.0f} GFLOP/s' if bf16 else 'none'}, memory read {peaks['read_gb_per_second']:.1f} GB/s"
    )
    for name in tables:
        table = importlib.import_module(f"tables.{name}")
        print(f"\n**{name}.** {table.__doc__.strip()}\n", flush=True)
        table.run(args)


if __name__ == "__main__":
    main()
