"""llama.cpp's quantiser: THREADS IN OUT TYPE, the last three as `daybreak quantize` takes them."""

import ctypes
import sys

import llama_cpp


def main():
    threads, source, out, name = sys.argv[1:]
    silent = llama_cpp.llama_log_callback(lambda level, text, user_data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = int(threads)
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
    if llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)) != 0:
        sys.exit(f"llama.cpp could not write {name}")


if __name__ == "__main__":
    main()
