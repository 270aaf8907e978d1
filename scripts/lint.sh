#!/usr/bin/env bash
# Formatters and linters over everything; changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --release --workspace --all-targets --quiet -- -D warnings
(cd web && npm run --silent check && npm run --silent lint)
