#!/usr/bin/env bash
# Makes the peers' virtual environment outside the tree, then compares.
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${XDG_CACHE_HOME:-$HOME/.cache}/daybreak/bench-venv"
if ! "$venv/bin/python" -c 'import llama_cpp' 2>/dev/null; then
  bash scripts/need.sh python3 cc
  echo "building llama-cpp-python (about ten minutes on two cores, once)" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet -r bench/requirements.txt
fi
bash scripts/test-setup.sh
exec "$venv/bin/python" bench/compare.py "$@"
