#!/usr/bin/env bash
# `make dist`: dist/daybreak-VERSION-ARCH-linux.tar.gz with the binary (page inside, stripped), its licences and
# a short README: the file one hands to a colleague who has neither Rust nor Node.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/need.sh cargo python3 strip
version=$(cargo metadata --no-deps --offline --format-version 1 | python3 -c 'import json,sys; print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "daybreak"))')
name="daybreak-$version-$(uname -m)-linux"
# What is handed on says which commit it came from; builds in between need not, and save the relinking.
DAYBREAK_COMMIT=$(git rev-parse HEAD 2>/dev/null || true) cargo build --release --quiet --bin daybreak
rm -rf "dist/$name" && mkdir -p "dist/$name"
strip -o "dist/$name/daybreak" target/release/daybreak
python3 scripts/third_party_licenses.py > "dist/$name/THIRD-PARTY-LICENSES.txt"
cp LICENSE "dist/$name/"
cat > "dist/$name/README.txt" <<'TEXT'
Daybreak: your own ChatGPT in one binary. It needs a 64-bit Linux with glibc, and nothing else.

    ./daybreak serve --open       the chat page on http://localhost:8420; the default model is fetched first
    ./daybreak run smollm2 "why is the sky blue?"
    ./daybreak --help             everything else

Conversations and models lie in ~/.local/share/daybreak; --data DIR puts them elsewhere.

Daybreak：装进一个程序里的 ChatGPT。只需要 64 位 Linux 和 glibc。

    ./daybreak serve --open       聊天页面在 http://localhost:8420；首次启动会先下载默认模型
    ./daybreak run smollm2 "天空为什么是蓝色的？"
    ./daybreak --help             其余的一切
TEXT
tar -C dist -czf "dist/$name.tar.gz" "$name"
rm -rf "dist/$name"
echo "dist/$name.tar.gz ($(du -h "dist/$name.tar.gz" | cut -f1))"
