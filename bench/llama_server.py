"""llama-server, built from the source package of llama-cpp-python (run.sh), as a process to talk to."""

import os
import socket
from pathlib import Path

from ours import Server

BIN = Path(os.environ["LLAMA_SERVER"])  # from run.sh


class LlamaServer(Server):
    """`llama-server -np N` with room for `ctx` tokens in each of its slots."""

    def __init__(self, file, threads, slots=1, ctx=2048):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [BIN, "-m", file, "-t", threads, "-np", slots, "-c", ctx * slots, "--port", port]
        super().__init__([*command, "--host", "127.0.0.1"], "health", f"http://127.0.0.1:{port}")
