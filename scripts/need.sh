#!/usr/bin/env bash
# need.sh TOOL…: stops with one line that says what to install when a tool is missing.
set -euo pipefail
for tool in "$@"; do
  command -v "$tool" >/dev/null 2>&1 && continue
  case "$tool" in
    cargo) how="install Rust from https://rustup.rs" ;;
    cc) how="run: apt-get install build-essential" ;;
    node | npm) how="install Node 20 or newer with npm (apt-get install nodejs npm, or https://nodejs.org)" ;;
    python3) how="run: apt-get install python3 python3-pip" ;;
    *) how="run: apt-get install $tool" ;;
  esac
  echo "$tool is missing: $how" >&2
  exit 1
done
