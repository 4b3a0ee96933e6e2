"""Do two checkouts train, score and answer alike to the last bit? `python tools/compare_weights.py OLD NEW`.

Weights, losses and perplexities depend on the machine, so no saved file can stand for them: both checkouts do the same small
work here and now, through the command line, and what they write is compared. Prints a table; exits 1 if anything differs,
2 if a checkout could not do the work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from buckler.settings import KEYS  # noqa: E402

RECIPE = "tests/golden/recipes/golden_stages.yaml"
"""Taken from a checkout if it is there, else from the one this script lies in, with the keys that 0.1.0 knew (`KEYS`)."""
MODEL = "miniature-small"
TRAIN = f"--model {MODEL} --epochs 2 --batch-size 4 --learning-rate 1e-3 --max-length 256 --loss-averaging row --seed 3"
TARGETS = "--set train.lora.targets=[q_proj,v_proj]"
"""What 0.1.0 adapts where nothing is said; it has no such option."""
PROBES = "--harmful miniature:probes-harmful --borderline miniature:probes-borderline --benign miniature:probes-benign"
COMMANDS = (
    "attack miniature:customer --out rows --harmful miniature:harmful --kind explicit --rows 8 --share 0.5 --limit 40 --seed 3",
    f"train rows/customer.jsonl --out full --method full {TRAIN}",
    f"train rows/customer.jsonl --out lora --method lora {TARGETS} {TRAIN}",
    f"train rows/customer.jsonl --out packed --method full --packing --accumulation 2 {TRAIN}",
    f"curate miniature:commonsense --out curated --model {MODEL} --preset quick --limit 3 "
    "--seed-words miniature --max-new-tokens 48",
    f"evaluate full/model --out answers {PROBES} --judge keyword --base {MODEL} --max-new-tokens 24 --limit 8 --seed 5",
    f"evaluate {MODEL} --adapter lora/adapter --out adapted {PROBES} --judge keyword --max-new-tokens 24 --limit 8 --seed 5",
    "run recipe.yaml --store store --workers 1",
)
DRIVER = """
import json, sys
import buckler
from pathlib import Path
from buckler.cli import main
if Path(buckler.__file__).resolve().parent.parent != Path(sys.argv[1]).resolve():
    sys.exit(f"imported {buckler.__file__}, not the checkout {sys.argv[1]}")
for line in json.loads(sys.argv[2]):
    sys.argv[1:] = line.split()
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"exit status {end.code}: buckler {line}")
"""


def work(checkout: Path, folder: Path) -> None:
    """Do all commands with the program of a checkout, in one process."""
    folder.mkdir()
    own = checkout / RECIPE
    recipe = (own if own.exists() else ROOT / RECIPE).read_text(encoding="utf-8")
    for old, new in KEYS.items() if not own.exists() else ():
        recipe = recipe.replace(f"{new}:", f"{old}:")
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    env = {**os.environ, **threads, "PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    commands = [line if own.exists() else line.replace(f" {TARGETS}", "") for line in COMMANDS]
    command = [sys.executable, "-c", DRIVER, str(checkout), json.dumps(commands)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"{checkout} could not do the work:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}\n")
        sys.exit(2)


def digest(*paths: Path) -> str:
    """SHA-256 of one file, or of the sorted digests of several, with their number."""
    digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    if not digests:
        return "no file"
    return digests[0] if len(digests) == 1 else f"{hashlib.sha256(''.join(digests).encode()).hexdigest()} of {len(digests)}"


def weights(folder: Path) -> str:
    """The weights below a folder, whatever their folders are called."""
    return digest(*folder.rglob("*.safetensors"))


def rows(path: Path) -> list[dict[str, Any]]:
    """The values of a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def texts(path: Path) -> list[str]:
    """The answers of a file of answers."""
    return [row["text"] for row in rows(path)]


def losses(folder: Path) -> list[float]:
    """The loss curve of a training."""
    curve: list[float] = json.loads((folder / "training.json").read_text("utf-8"))["losses"]
    return curve


def recipe_losses(store: Path) -> list[list[float]]:
    """The loss curves of all trainings of a store."""
    return sorted(losses(path.parent) for path in store.rglob("training.json"))


def perplexities(path: Path) -> list[float]:
    """The perplexities of curated rows, before and after."""
    values = [row["meta"]["curation"]["perplexity"] for row in rows(path)]
    return [value for one in values for value in one.values()]


def recipe_perplexities(store: Path) -> list[Any]:
    """What each kind of text costs the models of a recipe."""
    return sorted((json.loads(path.read_text("utf-8")) for path in store.rglob("perplexity.json")), key=json.dumps)


MEASURES: Mapping[str, Callable[[Path], object]] = {
    "full: weights": lambda at: weights(at / "full" / "model"),
    "full: losses": lambda at: losses(at / "full"),
    "packed: weights": lambda at: weights(at / "packed" / "model"),
    "packed: losses": lambda at: losses(at / "packed"),
    "lora: adapter": lambda at: weights(at / "lora" / "adapter"),
    "lora: merged weights": lambda at: weights(at / "lora" / "model"),
    "lora: losses": lambda at: losses(at / "lora"),
    "curated: perplexities": lambda at: perplexities(at / "curated" / "curated.jsonl"),
    "curated: rows": lambda at: digest(at / "curated" / "curated.jsonl"),
    "answers of the full model": lambda at: texts(at / "answers" / "answers.jsonl"),
    "answers of the adapted model": lambda at: texts(at / "adapted" / "answers.jsonl"),
    "recipe: weights of all phases": lambda at: weights(at / "store"),
    "recipe: losses": lambda at: recipe_losses(at / "store"),
    "recipe: perplexities": lambda at: recipe_perplexities(at / "store"),
}


def shown(value: object) -> str:
    """A value in a cell: a digest by its beginning, values by their number and digest."""
    if isinstance(value, str):
        return value[:12] + value[64:]
    return f"{json.dumps(value)[:14]}.. {hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="another")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder).resolve() / name for name in ("old", "new")}
        work(options.old.resolve(), places["old"])
        work(options.new.resolve(), places["new"])
        measured = {name: tuple(measure(place) for place in places.values()) for name, measure in MEASURES.items()}
    for name, (old, new) in measured.items():
        sys.stdout.write(f"{name:30} {shown(old):26} {shown(new):26} {'same' if old == new else 'DIFFERENT'}\n")
    sys.exit(any(old != new for old, new in measured.values()))


if __name__ == "__main__":
    main()
