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
bins=()
for target in "${targets[@]}"; do bins+=(--bin "$target"); done
CARGO_TARGET_DIR=$target_dir "${cargo[@]}" build --release --target "$triple" "${bins[@]}"

# Fuzzes one target; what it says goes to a log, whose last lines are shown.
fuzz() {
  mkdir -p "corpus/$1" artifacts
  # A file of 8 kB reaches every branch; the limits make a hang or a big allocation a finding.
  if "$built/$1" "corpus/$1" "../testdata/$1/corpus" -max_total_time="$seconds" -max_len=8192 -timeout=10 \
    -malloc_limit_mb=256 -rss_limit_mb=1500 -artifact_prefix="artifacts/$1-" -print_final_stats=1 \
    > "artifacts/$1.log" 2>&1; then
    echo "$1: nothing found, $(sed -n 's/^stat::number_of_executed_units: *//p' "artifacts/$1.log") inputs"
  else
    tail -n 40 "artifacts/$1.log"
    echo "$1: FOUND SOMETHING, see fuzz/artifacts"
    return 1
  fi
}
export -f fuzz
export seconds built="$target_dir/$triple/release"
# One after the other on each core.
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I TARGET bash -c 'fuzz TARGET'
