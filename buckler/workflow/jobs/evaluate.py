"""The job `evaluate`: probes asked and judged, multiple choice by likelihood, official tasks by their own harness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from buckler.crosstask.tasks import scorers
from buckler.data import ANSWERS, VERDICTS, Answer, Json, read_answers, read_jsonl, write_json
from buckler.errors import ConfigError
from buckler.evaluation.metrics import known_metrics
from buckler.evaluation.probes import MAX_NEW_TOKENS
from buckler.evaluation.utility import pooled
from buckler.judges.card import refusal_card
from buckler.models.protocol import ModelSpec
from buckler.models.registry import load
from buckler.progress import ProgressCallback, no_progress
from buckler.workflow.evaluation import CHOICES, choice_utility, evaluation_steps, require_judge
from buckler.workflow.executor import run_steps
from buckler.workflow.harness import check_tasks, official_scores
from buckler.workflow.jobs.base import (
    Earlier,
    Planned,
    Result,
    deliver,
    interval,
    mapping,
    read_object,
    store_of,
    unscored,
)
from buckler.workflow.jobs.judge import METRICS, Judgement, JudgingJob, judgement, servers
from buckler.workflow.jobs.loading import OPTION_NAMES, model_of, with_adapter
from buckler.workflow.jobs.probes import ProbingJob, check_choices, check_probes
from buckler.workflow.rows import rows_of
from buckler.workflow.sources import Source
from buckler.workflow.step import Step
from buckler.workflow.store import Store

UTILITY, OFFICIAL = "utility.json", "official.json"
ALL_FILES = "all files"
"""What the numbers over all utility files are called, every question counted once."""


class EvaluateJob(ProbingJob, JudgingJob):
    """A model's answers to probes, judged: safety, over-refusal, coherence and utility with intervals."""

    option_names = OPTION_NAMES["evaluate"]
    model: ModelSpec
    """Model to be evaluated: `miniature`, a local folder, a hub id, or `NAME@http://HOST:PORT/v1`."""
    adapter: str | None = None
    """PEFT adapter to load on the model."""
    utility: tuple[Source, ...] = ()
    """Files of multiple-choice questions for utility (MMLU, ARC, BoolQ, PIQA, CommonsenseQA)."""
    official: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness, run by the harness itself."""
    official_tasks: Path | None = None
    """Folder of your own lm-evaluation-harness tasks (YAML)."""
    judge_cards: Path | None = None
    """Folder of judge cards (`buckler judge-card`), by which rates are corrected."""
    metrics: tuple[str, ...] = ()
    """Additional metrics: those of an installed package, or your own as `module:name`."""
    base: ModelSpec | None = None
    """Untouched base model; answers with a very high perplexity under it count as incoherent."""
    max_new_tokens: int = Field(default=MAX_NEW_TOKENS, ge=1)
    """Maximum length of an answer, in tokens."""

    @field_validator("official", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        names = (value,) if isinstance(value, str) else value
        if isinstance(names, list | tuple) and not all(str(name).strip() for name in names):
            raise ValueError("names an empty task; write the name of a task")
        return names

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.official_tasks is not None and not self.official:
            raise ValueError(f"--official-tasks {self.official_tasks}: no task is named; name tasks with --official")
        if not (self.probes or self.harmful or self.borderline or self.benign or self.utility or self.official):
            raise ValueError("no probes given; name files with --probes, --harmful, --borderline, --benign or --utility")
        return self

    def plan(self, earlier: Earlier = {}) -> Planned:  # noqa: B006 - never changed
        """Answers, verdicts and numbers; `utility/FILE` for each utility file, and `official`.

        Raises:
            ConfigError, DataError, BackendError: a model, a judge or a file is not there.
        """
        model = model_of(self.model, earlier, self.adapter)
        require_judge(self.judge_spec)
        base = None if self.base is None else model_of(self.base, earlier)
        title, most, probes = self.model.name, self.max_new_tokens, self.probe_steps()
        further = known_metrics(self.metrics)
        measured = evaluation_steps(
            model, probes, judge=self.judge_spec, max_new_tokens=most, base=base, metrics=further, title=title
        )
        more: dict[str, Step] = {"answers": measured.answers, "verdicts": measured.verdicts} if probes else {}
        for source in self._choices():
            more[f"utility/{source.source}"] = choice_utility(model, rows_of(source), source.source)
        if self.official:
            folder = None if self.official_tasks is None else str(self.official_tasks)
            more["official"] = official_scores(model, self.official, folder, self.limit)
        result = measured.metrics if probes else next(iter(more.values()))
        return Planned(result=result, gives="answers", more=more)

    def run(
        self,
        out: Path,
        *,
        store: Store | None = None,
        earlier: Earlier = {},  # noqa: B006 - never changed
        progress: ProgressCallback = no_progress,
    ) -> Evaluation:
        """Write `answers.jsonl`, `verdicts.jsonl`, `metrics.json`; of multiple choice `utility.json`, of tasks `official.json`.

        Raises:
            ConfigError, DataError, BackendError: a file, a judge's card or a task cannot be read, or a model does not do what
                it is asked for; no model has been loaded yet.
        """
        planned, store, judge = self.plan(earlier), store_of(out, store), self.judge_spec
        notices = check_probes(self.probe_sources(), scorers(), self.limit) + check_choices(self._choices(), self.limit)
        if self.judge_cards is not None:
            refusal_card(self.judge_cards, judge.label, judge.version)
        if not all(store.is_done(step) for step in planned.targets):
            self._check_models()
        official = planned.more.get("official")
        if official is not None and not store.is_done(official):
            folder = None if self.official_tasks is None else str(self.official_tasks)
            check_tasks(with_adapter(self.model, self.adapter), self.official, folder)
        self.note_replaced(out, store, lambda: self.plan(earlier).targets)
        self.account_rows((*self.probe_sources(), *self._choices()), out, learns=False)
        utility, written = None, []
        if "answers" in planned.more:
            run_steps([planned.result], store, progress=progress)
            files = {ANSWERS: planned.more["answers"], VERDICTS: planned.more["verdicts"], METRICS: planned.result}
            for name, step in files.items():
                written += deliver(store.folder(step), {name: name}, out)
            written += servers(store.folder(planned.more["answers"]), store.folder(planned.more["verdicts"]), out)
            utility = judgement(out, judge, self.judge_cards, written=written)
        choices: dict[str, Json] = {}
        per_question: list[Path] = []
        for name, step in planned.more.items():
            if name.startswith("utility/"):
                run_steps([step], store, progress=progress)
                choices[name.removeprefix("utility/")] = read_object(store.folder(step) / UTILITY)
                per_question.append(store.folder(step) / CHOICES)
        if len(choices) > 1:
            choices[ALL_FILES] = pooled(row for file in per_question for _, row in read_jsonl(file)).to_json()
        if choices:
            write_json(out / UTILITY, choices)
        if official is not None:
            run_steps([official], store, progress=progress)
            written += deliver(store.folder(official), {OFFICIAL: OFFICIAL}, out)
        self.keep_settings(out)
        return Evaluation(
            out=out,
            written=tuple(written),
            notices=tuple(notices),
            judgement=utility,
            utility=choices,
            official={} if official is None else read_object(out / OFFICIAL),
        )

    def _choices(self) -> list[Source]:
        return [self.drawn(source, split="test") for source in self.utility]

    def _check_models(self) -> None:
        """Reach every server that is asked late, and see that it gives what it will be asked for; weights are there already."""
        measuring = {"--base": self.base, "--utility of": self.model if self.utility else None}
        for option, spec in measuring.items():
            if spec is not None and spec.endpoint is not None and not load(spec, negotiate=False).can_score:
                raise ConfigError(
                    f"{option} {spec.name}: {spec.endpoint} returns no log-probabilities; name local weights or a vLLM server"
                )
        probes = self.probes or self.harmful or self.borderline or self.benign
        for spec in self.judge_spec.models if probes else ():
            if spec.endpoint is not None:
                load(spec, negotiate=False)


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation(Result):
    """What a model does: its judged answers, its multiple-choice accuracy, its official numbers."""

    judgement: Judgement | None
    """The judged answers; None if there were no probes."""
    utility: Mapping[str, Json] = field(default_factory=dict)
    """Accuracy by utility file; of several also over `all files`, each question once."""
    official: Mapping[str, Json] = field(default_factory=dict)
    """Numbers of lm-evaluation-harness by task."""
    notices: tuple[str, ...] = ()
    """Notes on the probe files: repeated rows, fewer rows than the limit."""

    def answers(self) -> list[Answer]:
        """The model's answers."""
        return read_answers(self.out / ANSWERS) if self.judgement is not None else []

    def lines(self) -> list[str]:
        """Notices, files, the headline numbers, utility, official numbers."""
        official = [path for path in self.written if path.name == OFFICIAL]
        lines = [*self.notices, *(f"wrote {path}" for path in self.written if path not in official)]
        lines += [] if self.judgement is None else self.judgement.number_lines()
        return [*lines, *self._utility_lines(), *(f"wrote {path}" for path in official), *self._official_lines()]

    def numbers(self) -> dict[str, Json]:
        """Every number."""
        judged = {} if self.judgement is None else self.judgement.numbers()
        return {**judged, "utility": dict(self.utility), "official": dict(self.official)}

    def records(self) -> list[dict[str, Json]]:
        """One number a row."""
        rows = [] if self.judgement is None else self.judgement.records()
        names = ("value", "low", "high", "n")
        shown = short_names(self.utility)
        for file, scores in self.utility.items():
            for measure in ("acc", "acc_norm"):
                rate = mapping(mapping(scores)[measure])
                rows.append(
                    {
                        "metric": f"{measure} {shown[file]}",
                        **{name: rate.get(name) for name in names},
                        "unscored": rate.get("unread"),
                    }
                )
        return rows

    def _utility_lines(self) -> list[str]:
        lines = ["multiple choice by log-likelihood; intervals are 95 %"] if self.utility else []
        shown = short_names(self.utility)
        for name, scores in self.utility.items():
            for measure in ("acc", "acc_norm"):
                rate = mapping(mapping(scores)[measure])
                lines.append(f"  {shown[name]:28} {measure:9} {interval(rate)}  n {rate['n']}{unscored(rate)}")
        return lines

    def _official_lines(self) -> list[str]:
        lines = ["computed by lm-evaluation-harness"] if self.official else []
        for task, result in self.official.items():
            metrics = mapping(result)
            rows = f"  n {metrics['sample_len']}" if "sample_len" in metrics else ""
            # The harness writes METRIC,FILTER, and beside them what is no metric.
            lines += [
                f"  {task:28} {name:24} {value:.4g}{rows}"
                for name, value in metrics.items()
                if "," in name and isinstance(value, int | float)
            ]
        return lines


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Each path by its last parts, as many as tell it from the others."""
    parts = {path: Path(path).parts for path in paths}
    short: dict[str, str] = {}
    for path, own in parts.items():
        others = [other for one, other in parts.items() if one != path]
        unlike = (at for at in range(1, len(own) + 1) if not any(other[-at:] == own[-at:] for other in others))
        short[path] = "/".join(own[-next(unlike, len(own)) :]) or path
    return short
