"""`buckler doctor`: what this machine has, and what is missing, with the mend."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "transformers", "tokenizers", "peft", "accelerate", "datasets", "pydantic", "typer", "sacrebleu")
EXTRAS = {
    "ray": "a cluster (--cluster): pip install 'buckler[ray]'",
    "lm_eval": "the harness' own tasks (evaluate --official): pip install 'buckler[eval]'",
    "optuna": "an attacker who searches by TPE (sampler: optuna): pip install 'buckler[search]'",
    "pypdf": "mining seed words from papers: pip install 'buckler[seeds]'",
}
LEAST_DISK = 2e9


def examine() -> int:
    """Print one line a finding; 0 if everything needed is there, else 1."""
    faults = [*_packages(), *_device(), *_disk(), *_models()]
    for fault in faults:
        _line("missing", fault)
    _line("result", "all that is needed is here" if not faults else f"{len(faults)} things to mend")
    return 1 if faults else 0


def _packages() -> list[str]:
    _line("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    faults = []
    for name in PACKAGES:
        try:
            _line(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            faults.append(f"{name}: pip install {name}")
    for name, use in EXTRAS.items():
        try:
            _line(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            _line(name, f"not installed; only needed for {use}")
    return faults


def _device() -> list[str]:
    try:
        import torch
    except ImportError:
        return []
    _line("threads", str(torch.get_num_threads()))
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(number).total_memory / 2**30
            _line("gpu", f"{torch.cuda.get_device_name(number)}, {memory:.0f} GiB")
    else:
        _line("gpu", "none: the miniature needs none")
    return []


def _disk() -> list[str]:
    free = shutil.disk_usage(Path.cwd()).free
    _line("disk", f"{free / 1e9:.1f} GB free here")
    return [] if free > LEAST_DISK else [f"disk space: {free / 1e9:.1f} GB free, a run of the demo needs about 2 GB"]


def _models() -> list[str]:
    from buckler import miniature

    faults = []
    for name in miniature.MODELS:
        if (miniature.path(name) / "model.safetensors").exists():
            _line("model", f"{name} is here")
        else:
            faults.append(f"the embedded model {name}: reinstall, or in a checkout: git restore buckler/miniature/models")
    return faults


def _line(what: str, text: str) -> None:
    sys.stdout.write(f"{what:14} {text}\n")
