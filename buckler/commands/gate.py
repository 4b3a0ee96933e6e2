"""The gate: answer the probes with both models, or take saved answers, compare, and write what a CI reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buckler.commands import common
from buckler.commands.asked import check_probes
from buckler.crosstask.own_tasks import read_tasks
from buckler.data import ANSWERS, VERDICTS, read_answers, read_verdicts, write_json, write_text, write_verdicts
from buckler.errors import ConfigError, DataError, StoreError
from buckler.evaluation.scores import Scorers, score_answers
from buckler.evaluation.utility import scorers
from buckler.gating.checks import Side
from buckler.gating.decision import Gate, GateSettings, decide
from buckler.gating.outputs import Places, junit, sarif
from buckler.gating.summary import markdown, sentences
from buckler.judges.named import JudgeSpec, judge_from
from buckler.models.protocol import ModelSpec, spec_of
from buckler.models.registry import load
from buckler.workflow.evaluation import evaluation_steps
from buckler.workflow.inputs import ModelRef
from buckler.workflow.rows import probe_set, rows_of
from buckler.workflow.sources import Source
from buckler.workflow.store import Store

OUTPUTS = ("gate.json", "gate.md", "junit.xml", "gate.sarif")
SAVED = "saved"
"""What `--judge` says for no judge at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the user asked to have compared."""

    base: str
    """A model, or saved answers: a file, or a folder that `buckler evaluate` wrote."""
    tuned: str | None
    """The same, or the folder of an adapter for the base."""
    adapter: str | None
    probes: Sequence[tuple[Source, str | None]]
    judge: JudgeSpec | None
    """None: verdicts are read from the file beside saved answers."""
    settings: GateSettings
    settings_file: Path | None = None
    own_tasks: Path | None = None
    """Tasks of the user's own, to score answers by."""
    max_new_tokens: int = 256


def forget(out: Path) -> None:
    """Take away what an earlier run decided: one that stops, for whatever reason, must not leave it to be read as its own.

    Raises:
        ConfigError: the output folder is a file.
        StoreError: it cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder")
    try:
        for name in OUTPUTS:
            (out / name).unlink(missing_ok=True)
    except OSError as fault:
        raise StoreError(f"--out {out}: cannot be written: {fault.strerror or fault}") from None


def gate(order: Order, out: Path, *, show_unsafe: bool = False) -> int:
    """Compare -> `gate.json`, `gate.md`, `junit.xml`, `gate.sarif`; the exit status.

    Raises:
        ConfigError, DataError, BackendError: what was asked for cannot be compared.
    """
    sides = _resolved(order)
    by = scorers(read_tasks(order.own_tasks) if order.own_tasks else None)
    check_probes(order.probes, by)
    files = {name: _answers(source, name, order, out) for name, source in sides.items()}
    base, tuned = (_side(files[name], order.judge, by, out / name) for name in ("base", "tuned"))
    found = decide(base, tuned, order.settings, judge=_recorded(order.judge))
    lines = {answer.id: number for number, answer in enumerate(tuned.answers, 1)}
    places = Places(answers=files["tuned"][1], lines=lines, settings=order.settings_file)
    write_json(out / "gate.json", found.to_json())
    write_text(out / "gate.md", markdown(found, show_unsafe=show_unsafe))
    write_text(out / "junit.xml", junit(found))
    write_json(out / "gate.sarif", sarif(found, places))
    _say(found, out)
    return found.exit_status


def _recorded(judge: JudgeSpec | None) -> str:
    """The judge as it is recorded."""
    return "saved verdicts" if judge is None else f"{judge.label}, version {judge.version}"


def _say(found: Gate, out: Path) -> None:
    for one in found.outcomes:
        if one.state != "not asked":
            common.say(f"  {one.state:9} {one.check.id:24} {sentences(one)}")
    common.say(f"gate: {found.decision}; {out / 'gate.md'}, gate.json, junit.xml, gate.sarif")


def _resolved(order: Order) -> dict[str, Path | ModelRef]:
    """Saved answers or a model for each side, with every mistake found before anything is asked.

    A model is one that is there: `ModelRef.outside` looks at its weights.
    """
    if not order.tuned and not order.adapter:
        raise ConfigError("which model is in question? Name it with --tuned, or give an --adapter for the base")
    base, tuned = _saved(order.base), _saved(order.tuned) if order.tuned else None
    if tuned and order.adapter:
        raise ConfigError(f"--tuned {order.tuned} is saved answers, and --adapter goes on a model; leave one of them away")
    sides = {f"--base {order.base}": base, f"--tuned {order.tuned}" if order.tuned else f"--adapter {order.adapter}": tuned}
    models = [name for name, saved in sides.items() if saved is None]
    if models and order.judge is None:
        raise ConfigError(f"--judge {SAVED} reads verdicts beside saved answers, and {models[0]} is a model; name a judge")
    if models and not order.probes:
        raise ConfigError(
            f"no probes: {models[0]} holds no saved answers, so it is asked as a model; "
            "give files with --probes, --harmful, --borderline or --benign"
        )
    if not models and order.probes:
        raise ConfigError("both sides are saved answers, so no probe is asked; leave the probes away")
    return {
        "base": base or ModelRef.outside(spec_of(order.base)),
        "tuned": tuned or ModelRef.outside(_tuned(order, base is not None)),
    }


def _tuned(order: Order, base_is_saved: bool) -> ModelSpec:
    """The model in question: by itself, or an adapter on it or on the base."""
    name, adapter = order.tuned, order.adapter
    if name and _is_adapter(name):
        if adapter is not None:
            raise ConfigError(f"--tuned {name} is an adapter itself; give one of --tuned and --adapter")
        name, adapter = None, name
    if not name and base_is_saved:
        raise ConfigError(
            "--base is saved answers, so nobody knows what the adapter goes on: say --tuned MODEL --adapter ADAPTER"
        )
    return spec_of(name or order.base, adapter)


def _is_adapter(name: str) -> bool:
    folder = Path(name).expanduser()
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").exists()


def _saved(name: str) -> Path | None:
    """The answers file that a name stands for; None for a model."""
    path = Path(name).expanduser()
    if path.is_file() or path.suffix == ".jsonl":
        return path
    return path / ANSWERS if (path / ANSWERS).is_file() and not (path / "config.json").exists() else None


def _answers(source: Path | ModelRef, name: str, order: Order, out: Path) -> tuple[str, Path, Path | None]:
    """The side's name, its answers, and its verdicts where they are there already."""
    if isinstance(source, Path):
        return str(source), source, source.with_name(VERDICTS) if order.judge is None else None
    assert source.spec is not None
    title = source.spec.name + (f" + {source.spec.adapter}" if source.spec.adapter else "")
    asked = [probe_set(rows_of(probes), kind) for probes, kind in order.probes]
    assert order.judge is not None
    measured = evaluation_steps(source, asked, judge=order.judge, max_new_tokens=order.max_new_tokens, title=title)
    folder = common.run_one(measured.verdicts, out)
    (out / name).mkdir(exist_ok=True)
    common.deliver(Store(out / common.WORK).folder(measured.answers), {ANSWERS: ANSWERS}, out / name)
    common.deliver(folder, {VERDICTS: VERDICTS}, out / name)
    return title, out / name / ANSWERS, out / name / VERDICTS


def _side(files: tuple[str, Path, Path | None], judge: JudgeSpec | None, by: Scorers, out: Path) -> Side:
    """Answers with verdicts and scores; saved answers are judged here, and the verdicts are kept in `out`."""
    name, answers_file, verdicts_file = files
    answers = read_answers(answers_file)
    if not answers:
        raise DataError(f"{answers_file}: no answers in it")
    if verdicts_file is None and judge is not None:
        cache = out / common.WORK / "judge-cache.sqlite"
        verdicts = judge_from(judge, lambda model: load(model, cache=cache)).judge(answers)
        write_verdicts(out / VERDICTS, verdicts)
    else:
        verdicts = read_verdicts(verdicts_file or answers_file.with_name(VERDICTS))
    return Side(name=name, answers=answers, verdicts=verdicts, scores=score_answers(answers, by))
