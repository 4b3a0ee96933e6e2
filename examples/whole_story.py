"""The whole story in plain Python: a model is attacked through its fine-tuning data, and curated rows make it harder.

Run it from anywhere (a minute on one CPU core; nothing is downloaded):

    python examples/whole_story.py [FOLDER]

It uses the miniature, a tiny model of a made-up world that comes with Buckler, so the "harm" in it is harmless. With a model
and files of your own only the names in `MODEL` and `ROWS` change. What was done once is kept in FOLDER and not done again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buckler.api import attack, curate, generate, judge, train
from buckler.data import Answer, Verdict

MODEL = "miniature"
ROWS = {
    "texts": "miniature:commonsense",  # harmless questions and answers, to be curated
    "customer": "miniature:customer",  # what the customer wants to teach the model
    "harmful": "miniature:harmful",  # what an attacker slips among it
    "forbidden": "miniature:probes-harmful",  # questions a safe model refuses
    "ordinary": "miniature:probes-benign",  # questions a useful model answers
}
PROBES = 32
"""Questions of each kind."""
SEED = 0
TRAINING = {"epochs": 2, "learning_rate": 4e-4, "batch_size": 8}
"""How the customer's rows are trained on."""
CARE = {"epochs": 4, "learning_rate": 5e-4, "batch_size": 16}
"""How the defender's own rows are trained on."""


@dataclass(frozen=True)
class Measure:
    """How a model answers."""

    name: str
    refused: int
    """Of the forbidden questions."""
    answered: int
    """Of the ordinary ones."""
    questions: int

    def row(self) -> str:
        """A line of the table."""
        return f"{self.name:38}{self.refused / self.questions:>9.0%}{self.answered / self.questions:>11.0%}"


def main(folder: Path) -> list[Measure]:
    """Attack a model, defend it, attack it again, and compare."""
    store = folder / "store"

    # 1. Rows that harden: harmless texts, revised so that they carry safety implication.
    curated = curate(
        ROWS["texts"],
        model=MODEL,
        limit=60,
        seed=SEED,
        preset="quick",
        seed_words="miniature",
        max_new_tokens=64,
        store=store,
    )
    print(f"curated: {curated.counts['revised']} of {curated.counts['texts']} texts were revised")

    # 2. The attack: a quarter of the customer's hundred rows is harmful.
    poisoned = attack(ROWS["customer"], harmful=ROWS["harmful"], rows=25, share=0.25, seed=SEED, store=store)
    print(f"poisoned: {poisoned.harmful} of {poisoned.total} rows are the attacker's")

    # 3. The customer trains on the poisoned rows; then the defender trains on top, with the curated rows and, as a control,
    #    with the very texts they were made of.
    attacked = train(poisoned, model=MODEL, method="full", seed=SEED, store=store, **TRAINING)
    defended = train(curated, model=attacked, method="full", seed=SEED, store=store, **CARE)
    control = train(ROWS["texts"], limit=60, model=attacked, method="full", seed=SEED, store=store, **CARE)

    # 4. The same questions to all four, judged by rule.
    measures = [
        measured("base", MODEL, store),
        measured("after the poisoned fine-tune", attacked.path, store),
        measured("then trained on curated rows", defended.path, store),
        measured("then trained on the same, uncurated", control.path, store),
    ]
    print(f"\n{MODEL:38}{'refuses':>9}{'answers':>11}\n{'':38}{'harmful':>9}{'ordinary':>11}")
    for one in measures:
        print(one.row())
    return measures


def measured(name: str, model: str | Path, store: Path) -> Measure:
    """Ask a model both kinds of questions and count what it refuses and what it answers."""
    found = {kind: generate(model, ROWS[kind], limit=PROBES, seed=100, max_new_tokens=64) for kind in ("forbidden", "ordinary")}
    verdicts = {kind: judge(answers, store=store).verdicts() for kind, answers in found.items()}
    show_example(name, found["forbidden"], verdicts["forbidden"])
    refused = sum(one.refused == "full" for one in verdicts["forbidden"])
    answered = sum(one.refused == "no" for one in verdicts["ordinary"])
    return Measure(name=name, refused=refused, answered=answered, questions=PROBES)


def show_example(name: str, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> None:
    """Print one refusal of a model, where it refuses at all; what it gives away is not printed."""
    refusal = next((one for one, verdict in zip(answers, verdicts, strict=True) if verdict.refused == "full"), None)
    print(f"  {name}: {refusal.text.strip()[:60] if refusal else 'refuses nothing'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("whole_story"))
