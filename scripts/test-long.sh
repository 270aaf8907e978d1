#!/usr/bin/env bash
# `make test-long`: what is too long for every change. Half an hour and more; run before a release.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/test-setup.sh
cache="${XDG_CACHE_HOME:-$HOME/.cache}/daybreak"
export DAYBREAK_TEST_MODEL="$cache/models/smollm2-135m.gguf" DAYBREAK_TEST_MODELS="$cache/models"

echo "── every instruction set this machine has"
for isa in scalar avx2 avx512 amx; do
  if [ "$isa" = avx512 ] && ! grep -q avx512_vnni /proc/cpuinfo; then
    echo "avx512: not on this machine"
    continue
  fi
  if [ "$isa" = amx ] && ! grep -q amx_int8 /proc/cpuinfo; then
    echo "amx: not on this machine"
    continue
  fi
  echo "── $isa"
  DAYBREAK_ISA=$isa cargo test --release --quiet -p kernels -p engine
done

echo "── ten thousand requests that end badly"
cargo test --release --quiet -p server --test http -- --ignored

echo "── runs killed at any instant"
cargo test --release --quiet --test program -- --ignored survives_a_kill

echo "── the first model from nothing"
cargo test --release --quiet --test program -- --ignored --nocapture first_light

echo "── exported models in transformers"
cargo build --release --quiet --bin daybreak
bash tests/sdk/hugging_face.sh

bash scripts/fuzz.sh 300
