#!/usr/bin/env bash
# Exported models in Hugging Face's `transformers`, on PyTorch. Needs: the built binary, the default model in the cache
# (`make test-setup`), python3 with venv, room for PyTorch (some 5 GB). The packages go into .venv-sdk beside this file.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export DAYBREAK_BIN=${DAYBREAK_BIN:-$here/../../target/release/daybreak}
python=${SDK_PYTHON:-}
if [ -z "$python" ]; then
  [ -x "$here/.venv-sdk/bin/python" ] || python3 -m venv "$here/.venv-sdk"
  python="$here/.venv-sdk/bin/python"
  "$python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements-torch.txt"
fi
HF_HUB_OFFLINE=1 "$python" "$here/hugging_face.py"
