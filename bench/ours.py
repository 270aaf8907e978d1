"""Our side: one round of `daybreak bench`, and `daybreak serve` as a process to talk to."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daybreak"
BIN = Path(os.environ.get("DAYBREAK_BIN") or ROOT / "target/release/daybreak")


def run_json(command, timeout=900, env=None):
    """Runs a command that prints one JSON object, on its last line."""
    env = {**os.environ, **(env or {})}
    out = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout, env=env)
    if out.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{out.stderr.strip()}")
    return json.loads(out.stdout.strip().splitlines()[-1])


def bench_round(file, prompt, new, threads, *flags):
    """One round: prefill of `prompt` tokens, then decode of `new` from an empty context."""
    return run_json([BIN, "bench", file, "-p", prompt, "-n", new, "-t", threads, "-r", 1, "--json", *flags])


def machine(threads):
    """Integer and float peak and read bandwidth, right now."""
    return run_json([BIN, "bench", "--machine", "-t", threads, "--json"])


class Server:
    """A server process with its address; ends with the `with` block."""

    def __init__(self, command, health, address=None, env=None):
        self.start = time.perf_counter()
        quiet = {"stderr": subprocess.DEVNULL, "env": {**os.environ, **(env or {})}}
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, **quiet)
        self.address = address or self._printed_address()
        self._wait_until(f"{self.address}/{health}")
        self.seconds_to_healthy = time.perf_counter() - self.start

    def _printed_address(self):
        for line in self.process.stdout:
            if found := re.search(r"http://\S+", line):
                return found.group(0).rstrip("/")
        sys.exit("the server ended before it listened")

    def _wait_until(self, url, timeout=120):
        deadline = time.perf_counter() + timeout
        while time.perf_counter() < deadline:
            if self.process.poll() is not None:
                sys.exit("the server ended before it was healthy")
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.002)
        sys.exit("the server did not become healthy in time")

    def model(self):
        """The name under which the loaded model is asked for."""
        with urllib.request.urlopen(f"{self.address}/v1/models") as answer:
            return json.load(answer)["data"][0]["id"]

    def peak_memory(self):
        """VmHWM in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            # llama-server was seen not to end; the figures are taken by now, and nothing may go on beside the next.
            self.process.kill()
            self.process.wait()


class Daybreak(Server):
    """`daybreak serve` with its own data folder, deleted with the `with` block if it still is `data` then."""

    def __init__(self, file, threads, *flags, data=None):
        self.data = data or tempfile.TemporaryDirectory()
        command = [BIN, "serve", "--model", file, "--port", 0, "--data", self.data.name, "--threads", threads]
        super().__init__([*command, *flags], "health")

    def __exit__(self, *args):
        super().__exit__(*args)
        if self.data:
            self.data.cleanup()
