"""Prints the licence texts of everything that is compiled into the binary: crates, and the page's packages."""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")


def texts_in(folder):
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name.upper().startswith(TEXTS):
            yield path.name, path.read_text(errors="replace").strip()


def crates():
    target = next(line.split()[1] for line in subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout.splitlines() if line.startswith("host:"))
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout)
    linked, open_ids = set(), list(metadata["workspace_members"])
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    while open_ids:
        node = nodes[open_ids.pop()]
        if node["id"] in linked:
            continue
        linked.add(node["id"])
        open_ids += [d["pkg"] for d in node["deps"] if any(k["kind"] is None for k in d["dep_kinds"])]
    for package in sorted(metadata["packages"], key=lambda p: (p["name"], p["version"])):
        if package["id"] in linked and package["source"]:
            yield f"{package['name']} {package['version']}", package["license"], Path(package["manifest_path"]).parent


def web_packages():
    lock = json.loads((ROOT / "web/package-lock.json").read_text())
    for path, package in sorted(lock["packages"].items()):
        folder = ROOT / "web" / path
        if path and not package.get("dev") and folder.is_dir():
            yield f"{path.removeprefix('node_modules/')} {package['version']}", package.get("license"), folder


def main():
    seen = {}
    for name, licence, folder in [*crates(), *web_packages()]:
        print(f"{'=' * 80}\n{name} — {licence}\n")
        for file, text in texts_in(folder):
            if text in seen:
                print(f"{file}: the same text as {seen[text]}\n")
            else:
                seen[text] = f"{name}, {file}"
                print(f"{file}:\n\n{text}\n")


if __name__ == "__main__":
    main()
