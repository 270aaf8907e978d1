"""What every peer's script is asked and answers: one round as a process of its own, so that sides can take turns."""

import argparse
import json


def arguments(description):
    args = argparse.ArgumentParser(description=description)
    args.add_argument("file")
    args.add_argument("-p", type=int, default=512, help="tokens to read")
    args.add_argument("-n", type=int, default=128, help="tokens to generate for each answer")
    args.add_argument("-t", type=int, default=2, help="threads")
    args.add_argument("--streams", type=int, default=1, help="answers at once")
    return args.parse_args()


def report(prefill, decode, **more):
    """Tokens per second, as one line of JSON."""
    print(json.dumps({"prefill_tokens_per_second": prefill, "decode_tokens_per_second": decode, **more}))
