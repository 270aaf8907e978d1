#!/usr/bin/env bash
# Fuzzes every target for SECONDS each (default 60), from its committed corpus; what is found is kept in fuzz/corpus.
# The flags are those that cargo-fuzz would set. They need a nightly compiler (`rustup toolchain install nightly`); where
# there is none, the stable one is told to take them (RUSTC_BOOTSTRAP).
#     scripts/fuzz.sh [SECONDS] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
if cargo +nightly --version >/dev/null 2>&1; then
  cargo=(cargo +nightly)
else
  cargo=(cargo)
  export RUSTC_BOOTSTRAP=1
fi
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' Cargo.toml)
triple=$(rustc -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Zsanitizer=address -Cdebug-assertions"
for target in "${targets[@]}"; do
  CARGO_TARGET_DIR=$target_dir "${cargo[@]}" build --release --target "$triple" --bin "$target"
  mkdir -p "corpus/$target" artifacts
  # A file of 8 kB reaches every branch; the limits make a hang or a big allocation a finding.
  "$target_dir/$triple/release/$target" "corpus/$target" "../testdata/$target/corpus" \
    -max_total_time="$seconds" -max_len=8192 -timeout=10 -malloc_limit_mb=256 -rss_limit_mb=1500 \
    -artifact_prefix="artifacts/$target-" -print_final_stats=1
done
