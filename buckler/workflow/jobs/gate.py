"""The job `gate`: a tuned model, or its saved answers, compared with its base, and what a CI reads of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, JsonValue, field_validator

from buckler.crosstask.tasks import read_tasks, scorers
from buckler.data import ANSWERS, VERDICTS, Json, read_answers, read_verdicts, write_json, write_text, write_verdicts
from buckler.data.yaml_text import read_yaml
from buckler.errors import BackendError, ConfigError, DataError, StoreError
from buckler.evaluation.probes import MAX_NEW_TOKENS
from buckler.evaluation.scores import Scorers, score_answers
from buckler.gating.checks import Side
from buckler.gating.decision import Gate, GateSettings, decide
from buckler.gating.outputs import Places, junit, markdown, part_lines, sarif, sentences
from buckler.judges.named import JudgeSpec, judge_from
from buckler.models.places import base_of, is_adapter, location
from buckler.models.protocol import ModelSpec
from buckler.progress import ProgressCallback, no_progress
from buckler.settings import parse
from buckler.workflow.evaluation import Measured, evaluation_steps, require_judge
from buckler.workflow.executor import run_steps
from buckler.workflow.inputs import ModelRef
from buckler.workflow.jobs.base import EARLIER, Result, deliver, store_of
from buckler.workflow.jobs.judge import JudgingJob, cached, servers
from buckler.workflow.jobs.loading import HOW, MODEL_SETTINGS, OPTION_NAMES, with_adapter
from buckler.workflow.jobs.probes import ProbingJob, check_probes
from buckler.workflow.step import Step
from buckler.workflow.store import Store

OUTPUTS = ("gate.json", "gate.md", "junit.xml", "gate.sarif")
SAVED = "saved"
"""What `judge` says for no judge at all."""


class GateJob(ProbingJob, JudgingJob):
    """A comparison of a tuned model with its base: exit 0 if it is no worse, 1 if it is, 3 if the probes are too few to tell."""

    method_fields = ("gate",)
    option_names = OPTION_NAMES["gate"]
    unwritten_if_empty = (*HOW, *MODEL_SETTINGS)
    base: ModelSpec
    """Base model: a model as for `buckler evaluate`, or saved answers (file or folder)."""
    tuned: ModelSpec | None = None
    """Tuned model: a model as for `buckler evaluate`, saved answers, or an adapter for the base."""
    adapter: str | None = None
    """PEFT adapter to load on `tuned`, or on `base` if `tuned` is not given."""
    chat_template: Path | None = None
    """File with a Jinja chat template for `base` and `tuned`, in place of their tokenizers' own."""
    chat_template_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the chat template for `base` and `tuned`, such as {enable_thinking: false}."""
    judge: str = "keyword"
    """Judge as for `buckler evaluate`, or `saved` to use the verdicts beside saved answers."""
    gate: GateSettings = GateSettings()
    """Significance level and margins; those given here override the margins file."""
    margins: Path | None = None
    """YAML file of margins (default: the documented margins)."""
    tasks_file: Path | None = None
    """YAML file of your own tasks that the answers belong to, or `module:TASK`."""
    max_new_tokens: int = Field(default=MAX_NEW_TOKENS, ge=1)
    """Maximum length of an answer, in tokens."""
    show_unsafe: bool = False
    """Show unsafe answers in the summary instead of redacting them."""

    @field_validator("tuned", mode="before")
    @classmethod
    def _unnamed(cls, value: object) -> object:
        """An empty name, as an unset variable of a CI gives it, names nothing."""
        return None if value == "" else value

    @property
    def judge_or_saved(self) -> JudgeSpec | None:
        """The judge; None where verdicts are saved beside the answers."""
        return None if self.judge == SAVED else self.judge_spec

    @property
    def settings(self) -> GateSettings:
        """What the gate decides by.

        Raises:
            ConfigError: the file of margins is not understood.
        """
        if self.margins is None:
            return self.gate
        read = parse(GateSettings, read_yaml(self.margins), str(self.margins))
        named = self.gate.model_dump(exclude_unset=True)
        margins = {**read.margins.model_dump(), **named.pop("margins", {})}
        return read.model_copy(update={**named, "margins": read.margins.model_copy(update=margins)})

    def run(self, out: Path, *, store: Store | None = None, progress: ProgressCallback = no_progress) -> GateDecision:
        """Compare; write `gate.json`, `gate.md`, `junit.xml`, `gate.sarif`.

        Raises:
            ConfigError, DataError, BackendError: what is named cannot be compared.
        """
        forget(out)
        store, settings, judge = store_of(out, store), self.settings, self.judge_or_saved
        sides = self._sides()
        if judge is not None:
            require_judge(judge)
        self.note_replaced(out, store, self._steps)
        by = scorers(read_tasks(self.tasks_file) if self.tasks_file else None)
        notices = check_probes(self.probe_sources(), by)
        self.account_rows(self.probe_sources(), out, learns=False)
        written: list[Path] = []
        files: dict[str, tuple[str, Path, Path | None]] = {}
        for name, source in sides.items():
            if isinstance(source, Path):
                files[name] = (str(source), source, source.with_name(VERDICTS) if judge is None else None)
            else:
                files[name] = self._answered(source, out / name, store, progress)
                written += [path for path in files[name][1:] if path is not None]
        base, tuned = (_side(files[name], judge, by, out / name) for name in ("base", "tuned"))
        decision = decide(base, tuned, settings, judge=_recorded(judge))
        lines = {answer.id: number for number, answer in enumerate(tuned.answers, 1)}
        places = Places(answers=files["tuned"][1], lines=lines, settings=self.margins)
        write_json(out / "gate.json", decision.to_json())
        write_text(out / "gate.md", markdown(decision, show_unsafe=self.show_unsafe))
        write_text(out / "junit.xml", junit(decision))
        write_json(out / "gate.sarif", sarif(decision, places))
        written += [out / name for name in OUTPUTS]
        self.keep_settings(out)
        return GateDecision(out=out, written=tuple(written), notices=tuple(notices), gate=decision)

    def loaded_so(self, spec: ModelSpec) -> ModelSpec:
        """As for every job; what an earlier entry of a pipeline made is known only when it is there."""
        return spec if spec.name.startswith(EARLIER) else super().loaded_so(spec)

    def check(self) -> None:
        """Look for what is to be compared.

        Raises:
            ConfigError, DataError, BackendError: it is not there, or cannot be compared.
        """
        self._sides()
        check_probes(self.probe_sources(), scorers(read_tasks(self.tasks_file) if self.tasks_file else None))

    def sides_as_named(self) -> tuple[str, str]:
        """Base and tuned as the user named them."""
        return self.base.name, " + ".join(filter(None, ((self.tuned or self.base).name, self.adapter)))

    def _sides(self) -> dict[str, Path | ModelRef]:
        """Saved answers or a model for each side, with every mistake found before anything is asked.

        A model is one that is there: `Model.outside` looks at its weights.
        """
        if not self.tuned and not self.adapter:
            raise ConfigError("no tuned model given; name it with --tuned, or give an --adapter for the base")
        base, tuned = self._saved("base", self.base), self._saved("tuned", self.tuned)
        if tuned and self.adapter:
            raise ConfigError(
                f"{_flag('tuned', self.tuned)} is a set of saved answers, but --adapter needs a model; remove one of them"
            )
        second = _flag("tuned", self.tuned) if self.tuned else f"--adapter {self.adapter}"
        models = [name for name, saved in {_flag("base", self.base): base, second: tuned}.items() if saved is None]
        if models and self.judge == SAVED:
            raise ConfigError(f"--judge {SAVED} needs saved answers with verdicts, but {models[0]} is a model; name a judge")
        probes = self.probes or self.harmful or self.borderline or self.benign
        if models and not probes:
            raise ConfigError(
                f"no probes: {models[0]} contains no saved answers, so it is loaded as a model; "
                "name files with --probes, --harmful, --borderline or --benign"
            )
        if not models and probes:
            raise ConfigError("both sides are saved answers, so probes are not used; remove the probe options")
        of_template = {name: value for name in MODEL_SETTINGS if (value := getattr(self, name))}
        if of_template and not models:
            raise ConfigError(f"both sides are saved answers, so `{min(of_template)}` has no effect; remove it")
        return {
            "base": base or ModelRef.outside(self._with_template(self.base)),
            "tuned": tuned or ModelRef.outside(self._with_template(self._tuned(base is not None))),
        }

    def _with_template(self, spec: ModelSpec) -> ModelSpec:
        """A model of the comparison as it is loaded and asked: a template of its own comes before that of both."""
        file = None if self.chat_template is None else str(self.chat_template)
        both = {
            "chat_template": spec.chat_template or file,
            "chat_template_kwargs": spec.chat_template_kwargs or self.chat_template_kwargs,
        }
        return self.loaded_so(spec.model_copy(update=both) if any(both.values()) else spec)

    def _tuned(self, base_is_saved: bool) -> ModelSpec:
        """The model in question: by itself, or an adapter on it or on the base."""
        spec, adapter = self.tuned, self.adapter
        base = self.base
        if spec is not None and spec.is_local and _is_adapter(spec.name):
            if adapter is not None:
                raise ConfigError(f"{_flag('tuned', spec)} is itself an adapter; give only one of --tuned and --adapter")
            if _brings_its_base(spec.name, None if base_is_saved else base):
                return spec
            named = spec.model_dump(exclude={"name"}, exclude_unset=True, exclude_none=True)
            base = base.model_copy(update=named)
            adapter, spec = spec.name, None
        if spec is None and base_is_saved:
            raise ConfigError(
                "--base is a set of saved answers, so the adapter's base model is unknown; write --tuned MODEL --adapter ADAPTER"
            )
        return with_adapter(spec or base, adapter)

    def _saved(self, side: str, spec: ModelSpec | None) -> Path | None:
        """The answers file that a side names; None for a model.

        Raises:
            ConfigError: it has settings, which only a model can have.
        """
        path = None if spec is None or spec.endpoint is not None else _answers_file(spec.name)
        if path is None or spec is None:
            return None
        of_job = dict(zip(HOW, self.how, strict=True))
        given = [name for name in spec.model_fields_set - {"name"} if getattr(spec, name) not in (None, of_job.get(name))]
        if given:
            raise ConfigError(f"{_flag(side, spec)} is a set of saved answers, so `{sorted(given)[0]}` has no effect; remove it")
        return path

    def _answered(self, model: ModelRef, out: Path, store: Store, progress: ProgressCallback) -> tuple[str, Path, Path | None]:
        """The side's name, its answers and its verdicts, asked and judged now."""
        measured = self._measured(model)
        run_steps([measured.verdicts], store, progress=progress)
        deliver(store.folder(measured.answers), {ANSWERS: ANSWERS}, out)
        deliver(store.folder(measured.verdicts), {VERDICTS: VERDICTS}, out)
        servers(store.folder(measured.answers), store.folder(measured.verdicts), out)
        return _title(model), out / ANSWERS, out / VERDICTS

    def _steps(self) -> list[Step]:
        return [self._measured(one).verdicts for one in self._sides().values() if isinstance(one, ModelRef)]

    def _measured(self, model: ModelRef) -> Measured:
        most = self.max_new_tokens
        return evaluation_steps(model, self.probe_steps(), judge=self.judge_spec, max_new_tokens=most, title=_title(model))


def _title(model: ModelRef) -> str:
    assert model.spec is not None
    return model.spec.name + (f" + {model.spec.adapter}" if model.spec.adapter else "")


def forget(out: Path) -> None:
    """Remove what an earlier run decided: one that stops, for whatever reason, must not leave it to be read as its own.

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


@dataclass(frozen=True, kw_only=True, repr=False)
class GateDecision(Result):
    """Whether a tuned model is no worse than its base, check by check."""

    gate: Gate
    """Every check with its test."""
    notices: tuple[str, ...] = ()
    """Notes on the probe files."""

    @property
    def decision(self) -> str:
        """`pass`, `fail` or `inconclusive`."""
        return self.gate.decision

    @property
    def exit_status(self) -> int:
        """What the command leaves with."""
        return self.gate.exit_status

    def lines(self) -> list[str]:
        """Notices, answers that were written, each check, the decision."""
        answers = [f"wrote {path}" for path in self.written if path.name not in OUTPUTS]
        checks = [
            f"  {outcome.state:9} {outcome.check.id:24} {sentences(outcome)}"
            for outcome in self.gate.outcomes
            if outcome.state != "not asked"
        ]
        end = f"gate: {self.decision}; {self.out / 'gate.md'}, gate.json, junit.xml, gate.sarif"
        parts = part_lines(self.gate)
        by = ["  by benchmark (a probe of two counts in both; above: all probes, each once)", *parts] if parts else []
        return [*self.notices, *answers, *checks, *by, end]

    def numbers(self) -> dict[str, Json]:
        """`gate.json`."""
        return self.gate.to_json()

    def records(self) -> list[dict[str, Json]]:
        """One check a row."""
        return [
            {name: value for name, value in outcome.to_json().items() if not isinstance(value, Mapping | list)}
            for outcome in self.gate.outcomes
        ]


def _recorded(judge: JudgeSpec | None) -> str:
    """The judge as it is recorded."""
    return "saved verdicts" if judge is None else f"{judge.label}, version {judge.version}"


def _is_adapter(name: str) -> bool:
    return is_adapter(Path(name).expanduser())


def _flag(side: str, spec: ModelSpec | None) -> str:
    """A side as it was written."""
    return f"--{side} {spec.name if spec is not None else ''}"


def _brings_its_base(adapter: str, base: ModelSpec | None) -> bool:
    """Whether the base that an adapter names is here and is not the `base` of the comparison; None: that one is saved answers."""
    try:
        named = location(base_of(Path(adapter).expanduser())[0])
    except BackendError:
        return False
    if base is None or _is_adapter(base.name):
        return True
    place = location(base.name) if base.is_local else None
    return named is not None and place is not None and named.resolve() != place.resolve()


def _answers_file(name: str) -> Path | None:
    """The answers file that a name stands for; None for a model."""
    path = Path(name).expanduser()
    if path.is_file() or path.suffix == ".jsonl":
        return path
    return path / ANSWERS if (path / ANSWERS).is_file() and not (path / "config.json").exists() else None


def _side(files: tuple[str, Path, Path | None], judge: JudgeSpec | None, by: Scorers, out: Path) -> Side:
    """Answers with verdicts and scores; saved answers are judged here, and the verdicts are kept in `out`."""
    name, answers_file, verdicts_file = files
    answers = read_answers(answers_file)
    if not answers:
        raise DataError(f"{answers_file}: contains no answers")
    if verdicts_file is None and judge is not None:
        verdicts = judge_from(judge, cached(out)).judge(answers)
        write_verdicts(out / VERDICTS, verdicts)
    else:
        verdicts = read_verdicts(verdicts_file or answers_file.with_name(VERDICTS))
    return Side(name=name, answers=answers, verdicts=verdicts, scores=score_answers(answers, by))
