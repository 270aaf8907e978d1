"""First token of the next question in a conversation of about 4,000 tokens: after a restart, with and without its keys and values on disk."""

import json
import shutil
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from ours import Daybreak
from tables.common import head, row

WORDS = "The harbour lay still under a low grey sky, and nobody on the quay had anything to say. "
LONG = WORDS * 200


def run(args):
    head("model", "tokens", "kept, ms", "computed again, ms", "share", "MB on disk")
    for file in args.files:
        flags = ("--ctx", 8192, "--kv-memory", "1G")
        with Daybreak(file, args.threads, *flags) as server:
            kept_data = server.data
            wait_for_digest(server)
            conversation = call(server, "POST", "/api/conversations", settings())["id"]
            leaf, receipt = say(server, conversation, None, LONG)
            server.data = None
        # Without a bound for them its server deletes what is kept: that one works on a copy.
        copy = tempfile.TemporaryDirectory()
        shutil.copytree(kept_data.name, copy.name, dirs_exist_ok=True)
        kept, again = [], []
        for _ in range(args.rounds):
            for firsts, data, more in ((kept, kept_data, ()), (again, copy, ("--kv-disk", 0))):
                # Every round asks behind the same long answer, of which only the server that keeps knows anything.
                with Daybreak(file, args.threads, *flags, *more, data=data) as server:
                    say(server, call(server, "POST", "/api/conversations", settings())["id"], None, "Good morning.")
                    _, receipt = say(server, conversation, leaf, "Who spoke first?")
                    firsts.append(receipt["time_to_first_token_ms"])
                    server.data = None
        size = sum(path.stat().st_size for path in Path(kept_data.name, "kv").rglob("*.kv"))
        kept, again = statistics.median(kept), statistics.median(again)
        row(Path(file).stem, receipt["prompt_tokens"], f"{kept:.0f}", f"{again:.0f}", f"{kept / again:.0%}", f"{size / 1e6:.0f}")
        kept_data.cleanup()
        copy.cleanup()


def settings():
    return {"settings": {"temperature": 0, "max_tokens": 8}}


def wait_for_digest(server):
    """Conversations are kept once the model's file is known by its digest."""
    while True:
        conversation = call(server, "POST", "/api/conversations", settings())["id"]
        if say(server, conversation, None, "Good morning.")[1]["model"]["sha256"]:
            return
        time.sleep(1)


def say(server, conversation, parent, text):
    """The answer's id and its receipt."""
    said = call(
        server,
        "POST",
        f"/api/conversations/{conversation}/messages",
        {"parts": [{"type": "text", "text": text}], "parent_id": parent},
    )
    while True:
        messages = call(server, "GET", f"/api/conversations/{conversation}")["messages"]
        answer = next(message for message in messages if message["id"] == said["answer"]["id"])
        if answer["status"] == "complete":
            return answer["id"], answer["receipt"]
        if answer["status"] != "running":
            raise SystemExit(f"the answer ended as {answer['status']}: {answer}")
        time.sleep(0.02)


def call(server, method, path, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(server.address + path, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)
