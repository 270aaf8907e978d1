"""A prompt of 4,000 tokens arrives while four answers are being written: their 95th percentile of the time between
tokens before and meanwhile, and the prompt's first token beside its time alone."""

import statistics
import threading
import time
from pathlib import Path

from clients import complete, ids, together
from ours import Daybreak
from tables.common import head, row

LONG, WRITERS = 4000, 4


def p95(gaps):
    return statistics.quantiles(gaps, n=20)[-1] * 1e3


def gaps(answers, start, end):
    """Seconds between tokens that came between two moments."""
    times = ([t for t in answer.arrived if start <= t <= end] for answer in answers)
    return [b - a for arrived in times for a, b in zip(arrived, arrived[1:])]


def run(args):
    head("model", "between tokens, p95, ms: before", "meanwhile", "ratio", "first token, s: alone", "among them", "ratio")
    for file in args.files:
        with Daybreak(file, args.threads, "--ctx", 8192, "--kv-memory", "1G", "--prompt-lookup", "off") as server:
            model = server.model()
            alone = statistics.median(complete(server.address, model, ids(LONG, i), 1).first for i in range(args.rounds))
            # Long enough to be still at it when the prompt has been read.
            rate = 1 / complete(server.address, model, ids(8, 50), 64).per_token
            new = min(4000, int(alone * 3 * rate))
            before, meanwhile, among = [], [], []
            for i in range(args.rounds):
                late = []

                def arrive():
                    time.sleep(2)
                    late.append(complete(server.address, model, ids(LONG, 100 + i), 1))

                thread = threading.Thread(target=arrive)
                thread.start()
                writers = together(WRITERS, lambda n: complete(server.address, model, ids(8, 1000 + 10 * i + n), new))
                thread.join()
                sent, first = late[0].sent, late[0].arrived[0]
                before += gaps(writers, writers[0].sent + 0.5, sent)
                meanwhile += gaps(writers, sent, first)
                among.append(late[0].first)
        a, b, shared = p95(before), p95(meanwhile), statistics.median(among)
        row(Path(file).stem, f"{a:.1f}", f"{b:.1f}", f"{b / a:.2f}", f"{alone:.2f}", f"{shared:.2f}", f"{shared / alone:.2f}")
