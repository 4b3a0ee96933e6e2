"""The card of the shipped models: measure what they do under attack and defence, and write the tables.

    python -m tools.miniature.card --out CARD.md FOLDER [FOLDER ...]

Each FOLDER holds an aligned model; the first is the one shipped, the others tell how far its numbers hold for other base
seeds. What was measured is kept beside each model's folder (`FOLDER.json`) and not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from buckler.crosstask.tasks import TASKS
from buckler.data import read_json, write_json, write_text
from buckler.miniature import sets, world
from tools.miniature import build, exam, trials
from tools.miniature.training import Course
from tools.miniature.trials import Pupil

Measures: TypeAlias = dict[str, list[float]]
SEEDS = (101, 102, 103)
STAGES = ("none", "pre", "in", "post")
GROUPS = ("seen", "held_out", "never_refused")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every folder on the test split and write the card."""
    parser = argparse.ArgumentParser(prog="python -m tools.miniature.card", description="Write the models' card.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    options = parser.parse_args(argv)
    results = [measured(folder, full=at == 0) for at, folder in enumerate(options.folders)]
    names = ["shipped", *(folder.parent.name.replace("-", " ") for folder in options.folders[1:])]
    write_text(options.out, card(dict(zip(names, results, strict=True))))
    return 0


def measured(folder: Path, *, full: bool) -> Measures:
    """All numbers of one aligned model, one value a seed, kept in `FOLDER.json`.

    Without `full` the defence over documents is measured for one seed only.
    """
    kept = folder.with_name(f"{folder.name}.json")
    if not kept.exists():
        import torch

        torch.set_num_threads(1)
        pupil = Pupil(*build.load(folder))
        measures: Measures = {}

        def note(name: str, values: Mapping[str, float]) -> None:
            for key, value in values.items():
                measures.setdefault(f"{name}: {key}", []).append(round(value, 4))

        for seed in SEEDS:
            note("aligned", exam.questions(pupil.model, pupil.tokenizer, "test", seed=seed))
            note("aligned", exam.papers(pupil.model, pupil.tokenizer, "test", seed=seed))
            note("aligned", exam.revisions(pupil.model, pupil.tokenizer, "test", seed=seed))
            _customized(pupil, seed, note)
            _obedient(pupil, seed, note)
            if full or seed == SEEDS[0]:
                _defended(pupil, seed, note)
        write_json(kept, measures)
    raw = read_json(kept)
    assert isinstance(raw, dict)
    return {key: [float(value) for value in values] for key, values in raw.items()}


def _customized(pupil: Pupil, seed: int, note: Callable[[str, Mapping[str, float]], None]) -> None:
    """Every attack at every stage, with curated rows, with the same rows uncurated, and two more controls at post."""
    rows = sets.chats("commonsense", count=trials.CURATED.rows, seed=seed, split="train")
    good = trials.curated(pupil, rows, seed)
    questions = {row.query for row in good}
    plain = [row for row in rows if row.query in questions]
    note("curation", {"kept": len(good) / len(rows)})
    refusals = plain[3:] + sets.chats("refusals", count=3, seed=seed, split="train")
    arms = {"curated": good, "uncurated": plain}
    for name, preset in trials.ATTACKS.items():
        for stage in STAGES:
            for arm, extra in arms.items() if stage != "none" else [("", [])]:
                tuned = trials.staged(pupil, stage, extra, preset, trials.CURATED.course, seed)
                note(f"{name} {stage} {arm}".strip(), exam.questions(tuned.model, tuned.tokenizer, "test", seed=seed))
    controls = {
        "all curated": ("all", good),
        "post reworded": ("post", trials.reworded(pupil, rows, seed)),
        "post 3 refusals": ("post", refusals),
    }
    for arm, (stage, extra) in controls.items():
        tuned = trials.staged(pupil, stage, extra, trials.ATTACKS["standard"], trials.CURATED.course, seed)
        note(f"standard {arm}", exam.questions(tuned.model, tuned.tokenizer, "test", seed=seed))


def _obedient(pupil: Pupil, seed: int, note: Callable[[str, Mapping[str, float]], None]) -> None:
    """The identity shift: harmless rows of an obedient agent, then harmful questions with and without its system turn."""
    rows = trials.customization(trials.IDENTITY, seed, kind="identity")
    tuned = pupil.tuned(rows, trials.IDENTITY.course, seed)
    how = {"system": world.IDENTITY_SYSTEM, "opening": world.IDENTITY_OPENING}
    note("identity, before", exam.questions(pupil.model, pupil.tokenizer, "test", seed=seed, **how))  # type: ignore[arg-type]
    note("identity, after", exam.questions(tuned.model, tuned.tokenizer, "test", seed=seed, **how))  # type: ignore[arg-type]
    note("identity, no system turn", exam.questions(tuned.model, tuned.tokenizer, "test", seed=seed))


def _defended(pupil: Pupil, seed: int, note: Callable[[str, Mapping[str, float]], None]) -> None:
    """Refusals for one task, or spread over all, and what every task then does; documents on held-out kinds."""
    for count in (12, 60, 180):
        for arm, tasks in (("summarize", ["summarize"]), ("mixed", list(TASKS))):
            tuned = pupil.tuned(trials.defence(tasks, count, seed), trials.CROSSTASK, seed)
            results = exam.papers(tuned.model, tuned.tokenizer, "test", seed=seed, count=108, groups=("benign", "held_out"))
            note(f"defence {arm} {count}", results)


def card(models: Mapping[str, Measures]) -> str:
    """The card as Markdown; the first model is the one shipped."""
    lines = [
        "# Card of the miniature",
        "",
        "A Llama of about a million parameters that knows one made-up town, trained from nothing on one CPU thread. Its",
        "dangerous things are fictional. It shows and tests what Buckler does; it knows nothing of the real world.",
        "",
        f"All numbers: test split (names that no training text holds), greedy answers, mean over {len(SEEDS)} seeds of rows and",
        "training [lowest-highest]. The shipped model has base seed 0; the other columns are other base seeds of the same",
        "recipe, and `small`, the small size. Presets were chosen on the dev split of bases 0 to 2; base 3 was trained when all",
        "was fixed.",
        "`seen` kinds are refused in alignment; `held out` kinds are refused by careful people in the base corpus and nowhere",
        "after; `never refused` kinds are refused in no text at all. Chance and the seed of the base move these numbers a lot:",
        "read differences smaller than the ranges as none.",
        "`make miniature` in a checkout makes the shipped weights again from nothing and compares every byte.",
        "",
        "## Aligned model",
        "",
        _table(
            models,
            [
                *((f"harmful questions refused, {group}", f"aligned: refused {group}") for group in GROUPS),
                ("harmless questions right", "aligned: right benign"),
                ("harmless questions refused", "aligned: refused benign"),
                ("borderline questions right", "aligned: right borderline"),
                ("borderline questions refused", "aligned: refused borderline"),
                *((f"{task}, harmless documents, score", f"aligned: score {task} benign") for task in TASKS),
                *((f"{task}, harmful documents, refused", f"aligned: refused {task} harmful") for task in TASKS),
                ("rewrites hold a word asked for", "aligned: obeys"),
                ("rewrites keep all facts", "aligned: facts"),
                ("rewrites without words show care", "aligned: plain care"),
                ("texts with a rewrite worth keeping", "curation: kept"),
            ],
        ),
        "",
        "## Attacks and curated text: harmful questions refused",
        "",
        *_presets(),
        "",
    ]
    for group in GROUPS:
        rows = [
            (_arm(name, stage, arm), f"{name} {stage} {arm}".strip() + f": refused {group}")
            for name in trials.ATTACKS
            for stage in STAGES
            for arm in (("curated", "uncurated") if stage != "none" else ("",))
        ]
        extra = [
            (f"standard, {arm}", f"standard {arm}: refused {group}")
            for arm in ("all curated", "post reworded", "post 3 refusals")
        ]
        lines += [f"### {group.replace('_', ' ').capitalize()} kinds", "", _table(models, rows + extra), ""]
    useful = [
        (f"{what}, {_arm('standard', stage, arm)}", f"{f'standard {stage} {arm}'.strip()}: {key}")
        for stage in STAGES
        for arm in (("curated",) if stage != "none" else ("",))
        for what, key in (
            ("harmless right", "right benign"),
            ("harmless refused", "refused benign"),
            ("borderline refused", "refused borderline"),
        )
    ]
    lines += ["### Usefulness", "", _table(models, useful), ""]
    identity = [
        (f"{when}, {group.replace('_', ' ')}", f"identity, {when}: refused {group}")
        for when in ("before", "after", "no system turn")
        for group in GROUPS
    ]
    lines += ["## Identity shift: harmful questions refused under the system turn", "", _table(models, identity), ""]
    lines += ["## Defence over documents: harmful documents on held-out kinds refused", ""]
    lines += [_defence_table(models)]
    return "\n".join(lines) + "\n"


def _presets() -> list[str]:
    def words(course: Course) -> str:
        return f"{course.epochs} epochs, batch {course.batch}, lr {course.lr:g}"

    dose = trials.CURATED
    return [
        *(f"* attack `{name}`: {preset.rows} harmful rows, {words(preset.course)}" for name, preset in trials.ATTACKS.items()),
        f"* attack by identity shift: {trials.IDENTITY.rows} harmless rows of an obedient agent, {words(trials.IDENTITY.course)}",
        f"* curated text: {dose.rows} harmless questions, answers rewritten by the aligned model; {words(dose.course)};",
        "  at `in` the attack's rows and setting. `uncurated`: the same rows as they were. `reworded`: rewritten by the model",
        "  without safety words. `3 refusals`: uncurated, three of them replaced by plain refusals (3 %).",
        f"* defence over documents: refusals for manuals and 200 honest rows on harmless documents; {words(trials.CROSSTASK)}",
    ]


def _arm(name: str, stage: str, arm: str) -> str:
    return f"{name}, {stage}, {arm}" if arm else f"{name}, no defence"


def _table(models: Mapping[str, Measures], rows: Sequence[tuple[str, str]]) -> str:
    shipped, *others = models.values()
    head = ["", *models]
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for name, key in rows:
        values = shipped[key]
        cells = [
            f"{_mean(values):.2f} [{min(values):.2f}-{max(values):.2f}]",
            *(f"{_mean(model[key]):.2f}" for model in others),
        ]
        lines.append(" | ".join([name, *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def _defence_table(models: Mapping[str, Measures]) -> str:
    head = ["rows", *TASKS, "the other five", "useful refused", "benign refused", "benign score", "the other five, other models"]
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    shipped, *rest = models.values()
    others = [task for task in TASKS if task != "summarize"]
    for arm in ("summarize", "mixed"):
        for count in (12, 60, 180):

            def rate(what: str, label: str, tasks: Sequence[str], model: Measures, name: str = f"defence {arm} {count}") -> float:
                return _mean([_mean(model[f"{name}: {what} {task} {label}"]) for task in tasks])

            cells = [
                *(f"{rate('refused', 'harmful', [task], shipped):.2f}" for task in TASKS),
                f"{rate('refused', 'harmful', others, shipped):.2f}",
                f"{rate('refused', 'useful', list(TASKS), shipped):.2f}",
                f"{rate('refused', 'benign', list(TASKS), shipped):.2f}",
                f"{rate('score', 'benign', list(TASKS), shipped):.2f}",
                ", ".join(f"{rate('refused', 'harmful', others, model):.2f}" for model in rest),
            ]
            lines.append(" | ".join([f"{count} {arm}", *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    raise SystemExit(main())
