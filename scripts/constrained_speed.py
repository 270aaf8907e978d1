#!/usr/bin/env python3
"""What a grammar costs: tokens/s of free and of constrained answers, in turn, alone and eight at once.

    daybreak serve --model MODEL --port 8421 --ctx 2048
    python3 scripts/constrained_speed.py http://localhost:8421 [rounds]

A round asks for free answers of as many tokens as the constrained ones took, so that both read and write at the same
places of the context. Prints best and median of the rounds, and the ratio of each pair's median.
"""

import json
import statistics
import sys
import threading
import time
import urllib.request

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8421"
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 7

FIELDS = {
    "name": {"type": "string", "minLength": 20},
    "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "email": {"type": "string", "pattern": "^[a-z]+@[a-z]+\\.(com|org)$"},
    "city": {"enum": ["北京", "上海", "Paris", "London"]},
    "score": {"type": "number", "minimum": 0, "maximum": 10},
    "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "minItems": 2, "maxItems": 5},
    "active": {"type": "boolean"},
    "address": {
        "type": "object",
        "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
        "required": ["street", "zip"],
        "additionalProperties": False,
    },
    "born": {"type": "string", "format": "date"},
    "notes": {"type": "string", "minLength": 200},
}
SCHEMA = {"type": "object", "properties": FIELDS, "required": list(FIELDS), "additionalProperties": False}
ASK = [{"role": "user", "content": "Describe a person in detail: who they are, where they live and what they like."}]


def ask(seed, **more):
    body = {"messages": ASK, "seed": seed, "temperature": 0.7, "max_tokens": 200, **more}
    data = json.dumps(body).encode()
    request = urllib.request.Request(BASE + "/v1/chat/completions", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["usage"]["completion_tokens"]


def together(n, **more):
    """Tokens of n answers and the seconds that they took together."""
    tokens = [0] * n

    def one(seed):
        tokens[seed] = ask(seed, **more)

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(n)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(tokens), time.monotonic() - began


def first(name, **more):
    began = time.monotonic()
    ask(0, max_tokens=1, **more)
    print(f"{name}: {1e3 * (time.monotonic() - began):.0f} ms")


first("one token, nothing read before")
first("one token")
first("one token of the first grammar", json_schema=SCHEMA)
first("one token of a grammar seen before", json_schema=SCHEMA)
for n in (1, 8):
    speeds = {"free": [], "constrained": []}
    for _ in range(ROUNDS):
        tokens, seconds = together(n, json_schema=SCHEMA)
        speeds["constrained"].append(tokens / seconds)
        tokens, seconds = together(n, ignore_eos=True, max_tokens=max(1, tokens // n))
        speeds["free"].append(tokens / seconds)
    medians = {kind: statistics.median(values) for kind, values in speeds.items()}
    for kind, values in speeds.items():
        print(f"{n} at once, {kind}: best {max(values):.1f}, median {medians[kind]:.1f} tokens/s")
    print(f"{n} at once: constrained / free {medians['constrained'] / medians['free']:.3f}")
