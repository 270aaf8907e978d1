"""One pass of another encoder over documents it has not seen: SIDE TOKENIZER.json DOCUMENTS.jsonl THREADS, prints seconds
and the ids' digest as one JSON object."""

import array
import ctypes
import hashlib
import json
import os
import sys
import time


def main():
    side, path, documents, threads = sys.argv[1:]
    os.environ["RAYON_NUM_THREADS"] = threads
    texts = [json.loads(line)["text"] for line in open(documents, encoding="utf-8")]
    # Python makes the UTF-8 of a text when it is first asked for; that is no encoder's work.
    utf8 = ctypes.pythonapi.PyUnicode_AsUTF8AndSize
    utf8.argtypes, utf8.restype = [ctypes.py_object, ctypes.c_void_p], ctypes.c_void_p
    for text in texts:
        utf8(text, None)
    if side == "fastokens":
        import fastokens

        tokenizer = fastokens.Tokenizer.from_file(path)
        start = time.perf_counter()
        ids, _ = tokenizer.encode_batch_flat(texts, split_special_tokens=True)
        seconds = time.perf_counter() - start
    else:
        import tokenizers

        tokenizer = tokenizers.Tokenizer.from_file(path)
        tokenizer.encode_special_tokens = True
        start = time.perf_counter()
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        seconds = time.perf_counter() - start
        ids = b"".join(array.array("I", encoding.ids).tobytes() for encoding in encodings)
    print(json.dumps({"seconds": seconds, "digest": hashlib.sha256(ids).hexdigest()}))


if __name__ == "__main__":
    main()
