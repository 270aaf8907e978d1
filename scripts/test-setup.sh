#!/usr/bin/env bash
# What the tests need beyond Rust, Node and Python: Debian's Chromium, CJK fonts and PostgreSQL, and two
# small real models, kept outside the tree. System packages are installed only as root; otherwise the
# one line to run is printed.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/daybreak"

missing=()
command -v chromium >/dev/null 2>&1 || [ -n "${CHROMIUM:-}" ] || missing+=(chromium)
ls /usr/share/fonts/opentype/noto/NotoSansCJK* >/dev/null 2>&1 || missing+=(fonts-noto-cjk)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "system packages are missing; run: sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
fi

mkdir -p "$cache/models"
pull() { # pull NAME FILE [CATALOG]: through our own binary, which checks the hash
  [ -s "$cache/models/$2" ] && return
  make --no-print-directory build
  local data
  data=$(mktemp -d)
  target/release/daybreak pull "$1" --data "$data" ${3:+--catalog "$3"}
  mv "$(find -L "$data/models" -name '*.gguf' -size +1M | head -n 1)" "$cache/models/$2"
  rm -rf "$data"
}
pull smollm2:135m smollm2-135m.gguf
pull qwen2.5-coder:0.5b qwen2.5-coder-0.5b.gguf tests/catalog.toml
