#!/usr/bin/env bash
# The page in a real Chromium, talking to the real binary with the real model. Needs DAYBREAK_BIN
# (default target/release/daybreak), the models of `make test-setup` and Chromium (CHROMIUM or on the path).
set -euo pipefail
cd "$(dirname "$0")"
if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  npm ci --no-audit --no-fund --loglevel=error
fi
exec npx playwright test "$@"
