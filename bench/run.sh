#!/usr/bin/env bash
# Makes the peers outside the tree, once: a virtual environment, and llama-server from the same source package for
# the tables that speak HTTP. Then compares.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/daybreak"
# With DAYBREAK_ISA=avx2 the peers are made without AVX-512 too, beside the others.
suffix=""
flags=()
if [ "${DAYBREAK_ISA:-}" = avx2 ]; then
  suffix="-avx2"
  flags=(-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=OFF)
elif grep -qw amx_int8 /proc/cpuinfo; then
  # llama.cpp's own AMX kernels end with a segmentation fault in the first batch: everything else the processor has.
  flags=(-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX_VNNI=ON -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON -DGGML_AVX512_BF16=ON)
fi
[ ${#flags[@]} = 0 ] || export CMAKE_ARGS="${flags[*]}"
venv="$cache/bench-venv$suffix"
if ! "$venv/bin/python" -c 'import llama_cpp, openvino_genai, tokenizers, rustbpe, fastokens' 2>/dev/null; then
  bash scripts/need.sh python3 cc
  echo "building llama-cpp-python (about ten minutes on two cores, once)" >&2
  python3 -m venv "$venv"
  # No built wheel from the cache: it could be for the other instruction set.
  "$venv/bin/pip" install --quiet --no-cache-dir -r bench/requirements.txt
fi
llama="$cache/bench-llama$suffix"
if [ -z "${LLAMA_SERVER:-}" ] && [ ! -x "$llama/build/bin/llama-server" ]; then
  bash scripts/need.sh cmake cc tar
  echo "building llama-server (about ten minutes on two cores, once)" >&2
  mkdir -p "$llama"
  "$venv/bin/pip" download --quiet --no-deps --no-binary llama-cpp-python -d "$llama" "$(grep llama-cpp-python bench/requirements.txt)"
  tar -xzf "$llama"/llama_cpp_python-*.tar.gz -C "$llama" --strip-components=1
  cmake -S "$llama/vendor/llama.cpp" -B "$llama/build" -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_BUILD_TESTS=OFF "${flags[@]}" > "$llama/cmake.log"
  cmake --build "$llama/build" --target llama-server -j "$(nproc)" >> "$llama/cmake.log"
fi
export LLAMA_SERVER="${LLAMA_SERVER:-$llama/build/bin/llama-server}"
case " $* " in
  *" training "* | *" lora "* | *" quality "* | *" all "*)
    torch="$cache/bench-torch-venv"
    if [ -z "${TORCH_PYTHON:-}" ] && ! "$torch/bin/python" -c 'import torch, peft' 2>/dev/null; then
      echo "fetching PyTorch (five gigabytes, once)" >&2
      python3 -m venv "$torch"
      "$torch/bin/pip" install --quiet -r bench/requirements-torch.txt
    fi
    export TORCH_PYTHON="${TORCH_PYTHON:-$torch/bin/python}"
    ;;
esac
bash scripts/test-setup.sh
exec "$venv/bin/python" bench/compare.py "$@"
