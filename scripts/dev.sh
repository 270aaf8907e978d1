#!/usr/bin/env bash
# The development loop: vite serves the page with hot reload and hands /api and /v1 to our server, which
# is rebuilt and restarted whenever a Rust file changes.
set -euo pipefail
cd "$(dirname "$0")/.."
server=
stop() { [ -n "$server" ] && kill "$server" 2>/dev/null; wait 2>/dev/null; }
trap 'stop; exit 0' INT TERM EXIT
(cd web && exec npm run --silent dev) &
stamp() { find src crates Cargo.toml -name '*.rs' -o -name '*.toml' | xargs stat -c '%Y %n' | sha256sum; }
last=
while true; do
  now=$(stamp)
  if [ "$now" != "$last" ]; then
    last=$now
    if cargo build --release --bin daybreak; then
      [ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true
      target/release/daybreak serve ${ARGS:-} &
      server=$!
    fi
  fi
  sleep 1
done
