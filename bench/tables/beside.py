"""An answer over HTTP alone, and while a training run goes on as the page starts it: at the lowest priority, with as many threads. Milliseconds of each token and to the first one."""

import statistics
import subprocess
import time
from pathlib import Path

from clients import complete, ids
from ours import BIN, Daybreak
from tables.common import head, row

PROMPT = 256
RUN = ["train", "speed", "--depth", 6, "--vocab-size", 8192, "--steps", 10_000]


def run(args):
    head("model", "a token, ms: alone", "beside a run", "ratio", "first token, ms: alone", "beside a run", "ratio")
    for file in args.files:
        with Daybreak(file, args.threads, "--prompt-lookup", "off") as server:
            model = server.model()

            def answer(i):
                return complete(server.address, model, ids(PROMPT, i), args.n)

            answer(0)
            alone, beside = [], []
            for i in range(args.rounds):
                alone.append(answer(2 * i + 1))
                command = [BIN, "job-wrapper", "--nice", 19, "--", BIN, *RUN, "--threads", args.threads]
                training = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    time.sleep(5)
                    assert training.poll() is None, "the run has ended"
                    beside.append(answer(2 * i + 2))
                finally:
                    training.kill()
                    training.wait()
            token = [statistics.median(x.per_token for x in side) * 1e3 for side in (alone, beside)]
            first = [statistics.median(x.first for x in side) * 1e3 for side in (alone, beside)]
            cells = (f"{side[0]:.1f} | {side[1]:.1f} | {side[1] / side[0]:.2f}×" for side in (token, first))
            row(Path(file).stem, *cells)
