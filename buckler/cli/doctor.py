"""`buckler doctor`: what this machine has, and what is missing, with the fix."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

from buckler.models.dtype import cpu_has_amx

PACKAGES = ("torch", "transformers", "tokenizers", "peft", "accelerate", "datasets", "pydantic", "typer", "sacrebleu")
EXTRAS = {
    "ray": "a cluster (--cluster): pip install 'buckler[ray]'",
    "lm_eval": "lm-evaluation-harness tasks (evaluate --official): pip install 'buckler[eval]'",
    "optuna": "the attack search with TPE (sampler: optuna): pip install 'buckler[search]'",
    "gguf": "models in GGUF files: pip install 'buckler[gguf]'",
    "bitsandbytes": "quantized weights (--quantize): pip install 'buckler[quantize]'",
    "pypdf": "extracting seed words from papers (seeds): pip install 'buckler[seeds]'",
}
LEAST_DISK = 2e9
"""Bytes that a run of the demo needs."""
Line: TypeAlias = Callable[[str, str], None]
"""Takes the name of a thing and what was found of it."""


@dataclass(slots=True)
class Findings:
    """What was found, and what is missing."""

    findings: list[tuple[str, str]] = field(default_factory=list)
    """Name and finding."""
    missing: list[str] = field(default_factory=list)
    """What is needed and not here, with the fix."""

    def lines(self) -> list[str]:
        """One line a finding, then the result."""
        result = f"{len(self.missing)} things to fix" if self.missing else "everything needed is installed"
        shown = [*self.findings, *(("missing", fault) for fault in self.missing), ("result", result)]
        return [f"{what:14} {text}" for what, text in shown]


def examine() -> Findings:
    """Look at the packages, the device, the disk and the embedded models."""
    findings = Findings()
    for look in (_packages, _device, _disk, _models):
        findings.missing += look(lambda what, text: findings.findings.append((what, text)))
    return findings


def _packages(line: Line) -> list[str]:
    line("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    faults = []
    for name in PACKAGES:
        try:
            line(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            faults.append(f"{name}: pip install {name}")
    for name, use in EXTRAS.items():
        try:
            line(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            line(name, f"not installed (optional, for {use})")
    return faults


def _device(line: Line) -> list[str]:
    try:
        import torch
    except ImportError:
        return []
    line("threads", str(torch.get_num_threads()))
    line("bfloat16", "this CPU has AMX: large models use it" if cpu_has_amx() else "not on this CPU (no AMX)")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(number).total_memory / 2**30
            line("gpu", f"{torch.cuda.get_device_name(number)}, {memory:.0f} GiB")
    else:
        line("gpu", "none (not needed for the miniature)")
    return []


def _disk(line: Line) -> list[str]:
    free = shutil.disk_usage(Path.cwd()).free
    line("disk", f"{free / 1e9:.1f} GB free here")
    return [] if free > LEAST_DISK else [f"disk space: {free / 1e9:.1f} GB free; the demo needs about 2 GB"]


def _models(line: Line) -> list[str]:
    from buckler import miniature

    faults = []
    for name in miniature.MODELS:
        if (miniature.path(name) / "model.safetensors").exists():
            line("model", f"{name} found")
        else:
            faults.append(
                f"the embedded model {name}: missing or damaged; reinstall Buckler, or in a git checkout run: "
                "git restore buckler/miniature/models"
            )
    return faults
