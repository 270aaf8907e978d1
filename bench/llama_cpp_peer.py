"""One round of llama.cpp: loads FILE, reads PROMPT tokens, generates NEW tokens for each of STREAMS answers at
once (its batch API), prints one JSON object."""

import ctypes
import time

import llama_cpp

import peer


def decode(context, rows):
    """One llama_decode over `rows` of (token, position, sequence, wants logits)."""
    batch = llama_cpp.llama_batch_init(len(rows), 0, 1)
    try:
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wants_logits) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wants_logits
        if llama_cpp.llama_decode(context, batch) != 0:
            raise SystemExit("llama_decode failed")
    finally:
        llama_cpp.llama_batch_free(batch)


def read(context, tokens, first):
    """Reads a piece of a prompt; logits for its last token only."""
    rows = [(token, first + i, 0, i == len(tokens) - 1) for i, token in enumerate(tokens)]
    decode(context, rows)


def main():
    args = peer.arguments(__doc__)
    silent = llama_cpp.llama_log_callback(lambda level, text, user_data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(args.file.encode(), llama_cpp.llama_model_default_params())
    vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    params = llama_cpp.llama_context_default_params()
    params.n_seq_max = args.streams
    params.n_ctx = max(args.p + 64, (args.n + 64) * args.streams)
    params.kv_unified = True
    params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = args.t
    context = llama_cpp.llama_init_from_model(model, params)

    # Ids spread over the vocabulary; the arithmetic does not depend on which.
    prompt = [(i * 7919 + 13) % vocab_size for i in range(args.p)]
    read(context, prompt[: min(32, args.p)], 0)  # warm-up, as llama-bench does
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)

    start = time.perf_counter()
    for first in range(0, args.p, 512):
        read(context, prompt[first : first + 512], first)
    prefill = time.perf_counter() - start

    # Decode begins with an empty context, as in llama-bench and `daybreak bench`.
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    tokens = [prompt[i % args.p] for i in range(args.streams)]
    start = time.perf_counter()
    for i in range(args.n):
        decode(context, [(token, i, sequence, True) for sequence, token in enumerate(tokens)])
        for sequence in range(args.streams):
            # A chat would look at all logits; one of each row is enough to have waited for them.
            logits = llama_cpp.llama_get_logits_ith(context, sequence)
            tokens[sequence] = int(logits[0] > 0) + (i * 104729 + sequence) % (vocab_size - 1)
    spent = time.perf_counter() - start
    system = llama_cpp.llama_print_system_info().decode()
    streams = args.n * args.streams / spent
    peer.report(args.p / prefill, streams, version=llama_cpp.__version__, system=system)


if __name__ == "__main__":
    main()
