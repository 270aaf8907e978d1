#!/usr/bin/env bash
# Python packages of others against the built binary: OpenAI's against the server, with a key, and Hugging Face's
# `tokenizers` against the files of a vocabulary that was learnt. Needs: the binary, the default model in the
# cache (`make test-setup`), python3 with venv. The packages go into .venv-sdk beside this file.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=${DAYBREAK_BIN:-$here/../../target/release/daybreak}
python=${SDK_PYTHON:-}
if [ -z "$python" ]; then
  [ -x "$here/.venv-sdk/bin/python" ] || python3 -m venv "$here/.venv-sdk"
  python="$here/.venv-sdk/bin/python"
  "$python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
fi
data=$(mktemp -d)
export API_KEY=sdk-test-key
"$bin" serve --model smollm2:135m --port 0 --ctx 1024 --data "$data" --api-key "$API_KEY" >"$data/log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true; rm -rf "$data"' EXIT
for _ in $(seq 1 200); do
  BASE_URL=$(grep -oE 'http://(localhost|127\.0\.0\.1):[0-9]+' "$data/log" | head -1 || true)
  [ -n "$BASE_URL" ] && break
  kill -0 "$server" 2>/dev/null || { cat "$data/log"; exit 1; }
  sleep 0.1
done
[ -n "$BASE_URL" ] || { echo "the server printed no address within 20 s:"; cat "$data/log"; exit 1; }
export BASE_URL
"$python" "$here/openai_sdk.py"
DAYBREAK_BIN="$bin" "$python" "$here/tokenizer_files.py"
