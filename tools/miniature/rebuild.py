"""Make the shipped models again from nothing, and compare every byte of their folders with those in the package.

    python -m tools.miniature.rebuild [--size small] [--out DIR] [--write]

About ten CPU minutes on one thread. The bytes are the same only with the same library versions, on the same kind of CPU and
on one thread (which `build` sets): each decides in which order floats are summed. `MADE_WITH.json` records what the shipped
models were made with; if the bytes differ, what differs here from the record is printed. The exit status is 0 if all models are
the same or `--write` replaced them, else 1.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from buckler.data import read_json, write_json
from buckler.models.places import EMBEDDED, EMBEDDED_FOLDER
from tools.miniature import build
from tools.miniature.training import SIZES

SEED = 0
"""The base seed of every shipped model."""
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors")
MADE_WITH = Path(__file__).with_name("MADE_WITH.json")


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild, compare and, with `--write`, replace."""
    parser = argparse.ArgumentParser(prog="python -m tools.miniature.rebuild", description="Make the shipped models again.")
    parser.add_argument("--size", choices=sorted(SIZES), help="only the models of this size")
    parser.add_argument("--out", type=Path, default=Path("runs/miniature"), help="folder for what is built")
    parser.add_argument("--write", action="store_true", help="replace the shipped models that differ")
    options = parser.parse_args(argv)
    if options.size and options.write:
        parser.error("--write replaces the models of both sizes together: leave out --size")
    sizes = [options.size] if options.size else sorted(SIZES)
    failed = [size for size in sizes if build.build(options.out / size, size, SEED)]
    if failed:
        print(f"the {' and '.join(failed)} model fails its checks: nothing is compared or replaced")
        return 1
    for size in sizes:
        read_back(options.out / size / "base", padded=False)
        read_back(options.out / size / "aligned", padded=True)
    folders = [folder for folder in EMBEDDED.values() if folder.split("-")[0] in sizes]
    return compare(options.out, EMBEDDED_FOLDER, folders, write=options.write)


def read_back(folder: Path, *, padded: bool) -> None:
    """Save the tokenizer again as the shipped folders hold it: read from disk once, or used with padding and read again.

    That changes settings only, no token; but the identity of a model covers every byte of its tokenizer's files.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder.resolve(), local_files_only=True)
    if padded:
        tokenizer(["short", "a little longer"], padding=True)
        tokenizer.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder.resolve(), local_files_only=True)
    tokenizer.save_pretrained(folder)


def compare(built: Path, shipped: Path, folders: Sequence[str], *, write: bool) -> int:
    """Print the SHA-256 of each model's weights, old and new, and every other file that differs; 1 if any does.

    `SIZE-STAGE` of `shipped` is compared with `SIZE/STAGE` of `built`; with `write` those that differ are replaced.
    """
    different = []
    for folder in folders:
        size, stage = folder.split("-")
        old, new = digests(shipped / folder), digests(built / size / stage)
        changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        for name in sorted({"model.safetensors", *changed}):
            print(f"{folder}/{name}: {'DIFFERENT' if name in changed else 'same'}")
            print(f"    old sha256 {old.get(name, 'no such file')}")
            print(f"    new sha256 {new.get(name, 'no such file')}")
        if changed:
            different.append(folder)
    if not different:
        print(f"all {len(folders)} models are the same, byte for byte")
        return 0
    if write:
        for folder in different:
            size, stage = folder.split("-")
            shutil.rmtree(shipped / folder, ignore_errors=True)
            shutil.copytree(built / size / stage, shipped / folder)
        write_json(MADE_WITH, here())
        print(
            f"replaced: {', '.join(different)}; measure them again (tools.miniature.card): published numbers are of the old ones"
        )
        return 0
    for line in reasons(here(), _recorded()):
        print(line)
    return 1


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a model folder, by name."""
    files = folder.iterdir() if folder.is_dir() else ()
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def here() -> dict[str, str]:
    """What decides the bytes besides the source: library versions and the kind of CPU."""
    import torch

    versions = {name: metadata.version(name) for name in LIBRARIES}
    return {**versions, "machine": platform.machine(), "cpu": _cpu(), "vectors": torch.backends.cpu.get_cpu_capability()}


def reasons(now: Mapping[str, str], recorded: Mapping[str, str]) -> list[str]:
    """Why the bytes may differ, one line each."""
    lines = [
        f"the shipped models were made with {name} {value}, these with {now.get(name, 'none')}: that may be why"
        for name, value in recorded.items()
        if now.get(name) != value
    ]
    return lines or ["the libraries and the CPU are those of the shipped models: the corpus or the training has probably changed"]


def _recorded() -> dict[str, str]:
    raw = read_json(MADE_WITH)
    assert isinstance(raw, dict)
    return {str(name): str(value) for name, value in raw.items()}


def _cpu() -> str:
    """Vendor, family and model where Linux tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return f"{fields.get('vendor_id', 'unknown')} family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"


if __name__ == "__main__":
    raise SystemExit(main())
