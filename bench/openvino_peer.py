"""One round of OpenVINO GenAI: loads FILE (it takes llama, qwen2 and qwen3 in F16, Q4_0, Q4_1 and Q8_0), reads PROMPT tokens,
generates NEW tokens for each of STREAMS answers at once, prints one JSON object."""

import time

import numpy
import openvino
import openvino_genai

import peer


def main():
    args = peer.arguments(__doc__)

    def prompt(n, seed):
        return numpy.array([[1000 + (i * 7919 + seed * 104_729) % 39_000 for i in range(n)]], dtype=numpy.int64)

    def config(n):
        return openvino_genai.GenerationConfig(max_new_tokens=n, min_new_tokens=n, ignore_eos=True, do_sample=False)

    if args.streams > 1:
        # Continuous batching takes texts; "hello" repeated is a prompt of about one token.
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 1
        pipe = openvino_genai.ContinuousBatchingPipeline(
            args.file, scheduler, "CPU", {"INFERENCE_NUM_THREADS": args.t}
        )
        texts = [f"{i}" for i in range(args.streams)]
        pipe.generate(texts, [config(4)] * args.streams)
        start = time.perf_counter()
        pipe.generate(texts, [config(args.n)] * args.streams)
        spent = time.perf_counter() - start
        prefill, decode = None, args.n * args.streams / spent
    else:
        pipe = openvino_genai.LLMPipeline(args.file, "CPU", INFERENCE_NUM_THREADS=args.t)
        encoded = lambda ids: openvino_genai.TokenizedInputs(  # noqa: E731
            openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids))
        )
        pipe.generate(encoded(prompt(32, 1)), config(4))
        start = time.perf_counter()
        pipe.generate(encoded(prompt(args.p, 2)), config(1))
        prefill = args.p / (time.perf_counter() - start)
        metrics = pipe.generate(encoded(prompt(1, 3)), config(args.n)).perf_metrics
        decode = 1000 / metrics.get_tpot().mean
    peer.report(prefill, decode, version=openvino_genai.__version__)


if __name__ == "__main__":
    main()
