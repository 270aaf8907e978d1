"""Clients that stream completions over HTTP and note when each token came."""

import json
import threading
import time
import urllib.request
from dataclasses import dataclass, field


@dataclass
class Answer:
    """When a request was sent and each piece of its answer arrived, in seconds."""

    sent: float = 0.0
    arrived: list = field(default_factory=list)
    text: str = ""
    n_tokens: int = 0
    n_cached: int = 0

    @property
    def first(self):
        return self.arrived[0] - self.sent

    @property
    def per_token(self):
        return (self.arrived[-1] - self.arrived[0]) / max(1, (self.n_tokens or len(self.arrived)) - 1)


def complete(address, model, prompt, new, **extra):
    """Streams one completion of `prompt` (text or token ids)."""
    return stream(f"{address}/v1/completions", {"model": model, "prompt": prompt, "max_tokens": new, **extra})


def chat(address, model, question, new, **extra):
    """Streams the answer to one question."""
    messages = [{"role": "user", "content": question}]
    return stream(f"{address}/v1/chat/completions", {"model": model, "messages": messages, "max_tokens": new, **extra})


def stream(url, body):
    body = {"stream": True, "temperature": 0.0, "ignore_eos": True, "stream_options": {"include_usage": True}, **body}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    answer = Answer(sent=time.perf_counter())
    with urllib.request.urlopen(request, timeout=600) as lines:
        for line in lines:
            if not line.startswith(b"data: {"):
                continue
            now = time.perf_counter()
            piece = json.loads(line[6:])
            if usage := piece.get("usage"):
                answer.n_tokens = usage["completion_tokens"]
                answer.n_cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            for choice in piece.get("choices", []):
                text = choice.get("text") or (choice.get("delta") or {}).get("content")
                if text:
                    answer.text += text
                    answer.arrived.append(now)
    return answer


def together(n, work):
    """Runs `work(i)` in `n` threads that start at the same moment; their results in order."""
    results, gate = [None] * n, threading.Barrier(n)

    def client(i):
        gate.wait()
        results[i] = work(i)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if None in results:
        raise SystemExit("a client failed; its error stands above")
    return results


def ids(n, seed):
    """Token ids below 40,000 that no other seed gives: the arithmetic does not depend on which."""
    return [1000 + (i * 7919 + seed * 104_729 + 13) % 39_000 for i in range(n)]
