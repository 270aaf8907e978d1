#!/usr/bin/env bash
# `make test`: everything, in the order that shares one build. Prints each part's time, and at the end the
# counts of all runners in one line: N passed, N failed.
set -uo pipefail
cd "$(dirname "$0")/.."
bash scripts/need.sh cargo cc node npm python3 || exit 1
cache="${XDG_CACHE_HOME:-$HOME/.cache}/daybreak"
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed_parts=()
passed=0
failed=0

part() { # part NAME COMMAND…: runs it, counts what its runner printed, remembers a failure
  local name=$1 start=$SECONDS log="$logs/${1// /-}.log"
  shift
  echo "── $name"
  "$@" 2>&1 | tee "$log"
  local rc=${PIPESTATUS[0]} p f
  # cargo test · vitest · playwright · unittest
  p=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '/^test result:/ {n+=$4} /^ *Tests +.*passed/ {for(i=1;i<=NF;i++) if($(i+1)=="passed") n+=$i} /^ +[0-9]+ passed( |$)/ {n+=$1} /^Ran [0-9]+ tests? in/ {n+=$2} END {print n+0}')
  f=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '/^test result:/ {n+=$6} /^ *Tests +.*failed/ {for(i=1;i<=NF;i++) if($(i+1)=="failed") n+=$i} /^ +[0-9]+ failed( |$)/ {n+=$1} END {print n+0}')
  passed=$((passed + p))
  failed=$((failed + f))
  if [ "$rc" != 0 ]; then
    failed_parts+=("$name")
    [ "$f" = 0 ] && failed=$((failed + 1))
  fi
  echo "── $name: $((SECONDS - start)) s, exit code $rc"
  return "$rc"
}

part "web build" make --no-print-directory web || exit 1
part "build" cargo build --release --quiet --bin daybreak || exit 1
part "test setup" bash scripts/test-setup.sh || exit 1
export DAYBREAK_TEST_MODEL="$cache/models/smollm2-135m.gguf"
export DAYBREAK_TEST_MODELS="$cache/models"
part "lint" bash scripts/lint.sh
part "web unit tests" npm --prefix web run --silent test
part "rust tests" sh tests/postgres.sh run cargo test --release --workspace --quiet --no-fail-fast
export DAYBREAK_BIN="$PWD/target/release/daybreak"
part "python packages" bash tests/sdk/run.sh
part "browser tests" bash tests/browser/run.sh

echo
[ ${#failed_parts[@]} -gt 0 ] && printf 'failed: %s\n' "${failed_parts[@]}"
echo "$passed passed, $failed failed"
[ ${#failed_parts[@]} -eq 0 ]
