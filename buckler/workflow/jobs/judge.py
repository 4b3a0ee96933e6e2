"""The jobs `judge` (saved answers judged again) and `judge-card` (a judge measured against people), and how numbers are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from buckler.crosstask.tasks import read_tasks, scorers
from buckler.data import (
    ANSWERS,
    VERDICTS,
    Answer,
    Json,
    Verdict,
    read_answers,
    read_verdicts,
    write_answers,
    write_json,
    write_verdicts,
)
from buckler.data.answers import of_one_model
from buckler.errors import ConfigError, DataError
from buckler.evaluation.metrics import known_metrics, left_out, left_out_sentences, summarise, without_value
from buckler.evaluation.power import FEW, detectable
from buckler.evaluation.scores import score_answers, withheld_numbers
from buckler.evaluation.statistics import Rate, rate
from buckler.judges.agreement import OF_REFUSAL, corrected
from buckler.judges.card import REFUSAL_QUESTION, refusal_card
from buckler.judges.named import JudgeSpec, Loader, judge_from, judge_spec
from buckler.models.places import note_type
from buckler.models.protocol import LM, ModelSpec
from buckler.models.registry import JUDGES_SERVERS, SERVERS, load
from buckler.progress import ProgressCallback, no_progress
from buckler.workflow.evaluation import judged_and_summarised, require_judge
from buckler.workflow.executor import run_steps
from buckler.workflow.inputs import own_tasks_at
from buckler.workflow.jobs.base import (
    EARLIER,
    WORK,
    Earlier,
    Planned,
    Result,
    answers_of,
    deliver,
    interval,
    mapping,
    read_object,
    store_of,
    unscored,
    whole,
)
from buckler.workflow.jobs.loading import OPTION_NAMES, AnsweringJob
from buckler.workflow.store import Store

METRICS = "metrics.json"
DETECTION = (
    "detectable differences: 80 % power, unpaired, equal numbers of probes, rates near 0.5; paired tests detect smaller ones"
)


class JudgingJob(AnsweringJob):
    """A job that judges answers."""

    judge: str = "keyword"
    """Judge of the answers: `keyword`, `paper`, `rubric`, `strongreject`, `guard` or `module:Class`; several separated by
    commas for a majority vote. `NAME=MODEL` sets a judge's model."""
    judge_model: ModelSpec | None = None
    """Model for judges that need one: a folder, a hub id or `NAME@URL`."""
    seed: int = 0
    """Random seed; the same seed gives the same files."""

    @property
    def judge_spec(self) -> JudgeSpec:
        """The judge, checked.

        Raises:
            ConfigError: there is no such judge, or it lacks a model.
        """
        return self._loaded(judge_spec(self.judge, self.judge_model, self.seed))

    def _loaded(self, spec: JudgeSpec) -> JudgeSpec:
        """The judge with its models loaded as the job says."""
        if not any(self.how):
            return spec
        model = None if spec.model is None else self.loaded_so(spec.model)
        return spec.model_copy(update={"model": model, "parts": tuple(self._loaded(part) for part in spec.parts)})


class JudgeJob(JudgingJob):
    """Saved answers judged again, without the model that gave them: verdicts, every number, a table."""

    option_names = OPTION_NAMES["judge"]
    answers: tuple[Path, ...] = Field(min_length=1)
    """Answer files (`answers.jsonl`) written by Buckler."""
    judge_cards: Path | None = None
    """Folder of judge cards (`buckler judge-card`), by which rates are corrected."""
    tasks_file: Path | None = None
    """YAML file of your own tasks that the answers belong to, or `module:TASK`."""
    metrics: tuple[str, ...] = ()
    """Additional metrics: those of an installed package, or your own as `module:name`."""

    def plan(self, earlier: Earlier = {}) -> Planned:  # noqa: B006 - never changed
        """The verdicts and numbers of an earlier job's answers.

        Raises:
            ConfigError: the answers are files, which are judged where they lie, or there is no such job.
        """
        if len(self.answers) > 1 or not str(self.answers[0]).startswith(EARLIER):
            raise ConfigError(
                f"{self.answers[0]}: in a pipeline the answers must be those of one earlier job, named `{EARLIER}NAME`"
            )
        answers = answers_of(str(self.answers[0]), earlier).more["answers"]
        own, further = own_tasks_at(self.tasks_file), known_metrics(self.metrics)
        step = judged_and_summarised(answers, self.judge_spec, own=own, metrics=further, title=str(self.answers[0]))
        return Planned(result=step.metrics, gives="answers", more={"answers": answers, "verdicts": step.verdicts})

    def run(
        self,
        out: Path,
        *,
        store: Store | None = None,
        earlier: Earlier = {},  # noqa: B006 - never changed
        progress: ProgressCallback = no_progress,
    ) -> Judgement:
        """Write `verdicts.jsonl` and `metrics.json`; where the judge has a card, also `corrected.json`.

        Raises:
            DataError: there is no answer, or they cannot be summed up; nothing has been judged yet.
        """
        judge = self.judge_spec
        require_judge(judge)
        self.note_replaced(out)
        if str(self.answers[0]).startswith(EARLIER):
            planned, store = self.plan(earlier), store_of(out, store)
            run_steps([planned.result], store, progress=progress)
            written = deliver(store.folder(planned.more["verdicts"]), {VERDICTS: VERDICTS, SERVERS: JUDGES_SERVERS}, out)
            written += deliver(store.folder(planned.result), {METRICS: METRICS}, out)
            count = len(read_answers(store.folder(planned.more["answers"]) / ANSWERS))
        else:
            answers = [one for path in self.answers for one in read_answers(path)]
            if not answers:
                raise DataError(f"{', '.join(map(str, self.answers))}: contains no answers")
            judge_files(answers, judge, out, own_tasks=self.tasks_file, metrics=known_metrics(self.metrics))
            written, count = [out / VERDICTS, out / METRICS], len(answers)
            written += deliver(out / WORK, {SERVERS: JUDGES_SERVERS}, out)
        self.keep_settings(out)
        head = f"{count} answers judged; wrote {out / VERDICTS} and {out / METRICS}"
        return judgement(out, judge, self.judge_cards, written=written, head=[head])


def cached(out: Path) -> Loader:
    """Loads a judge's model, whose replies are kept in the work folder beside the output."""

    def loaded(spec: ModelSpec) -> LM:
        note_type(spec)
        return load(spec, cache=out / WORK / "judge-cache.sqlite")

    return loaded


def judge_files(
    answers: Sequence[Answer], spec: JudgeSpec, out: Path, *, own_tasks: Path | None, metrics: Sequence[str] = ()
) -> None:
    """Judge answers and sum them up -> `verdicts.jsonl`, `metrics.json`.

    Raises:
        DataError: they cannot be summed up; nothing has been judged yet.
    """
    scores = score_answers(answers, scorers(read_tasks(own_tasks) if own_tasks else None))
    summarise(answers, [Verdict(id=answer.id) for answer in answers], scores)
    verdicts = judge_from(spec, cached(out)).judge(answers)
    write_verdicts(out / VERDICTS, verdicts)
    write_json(out / METRICS, summarise(answers, verdicts, scores, metrics))


def verdicts_only(answers: Sequence[Answer], job: JudgeJob, out: Path) -> Judgement:
    """Verdicts on answers of which nobody knows what a good model does with their probes: there is nothing to sum up."""
    judge, answers = job.judge_spec, of_one_model(answers)
    write_answers(out / ANSWERS, answers)
    verdicts = judge_from(judge, cached(out)).judge(answers)
    write_verdicts(out / VERDICTS, verdicts)
    written = (out / ANSWERS, out / VERDICTS)
    refused = rate(verdict.is_refusal for verdict in verdicts).to_json()
    more = {**withheld_numbers(verdicts), **left_out(answers), "answers": len(answers)}
    metrics: dict[str, Json] = {"overall": {"refusal_rate": refused, **more}, "sets": {}}
    return Judgement(out=out, written=written, judge=judge.label, cards=job.judge_cards, metrics=metrics)


def servers(answers: Path, verdicts: Path, out: Path) -> list[Path]:
    """Hand over what was found out about the servers that answered and judged, where servers did; the files written."""
    return deliver(answers, {SERVERS: SERVERS}, out) + deliver(verdicts, {SERVERS: JUDGES_SERVERS}, out)


def judgement(
    out: Path, judge: JudgeSpec, cards: Path | None, *, written: Sequence[Path] = (), head: Sequence[str] = ()
) -> Judgement:
    """The numbers of `metrics.json`; with a card of the judge's version also the corrected ones -> `corrected.json`."""
    metrics = read_object(out / METRICS)
    card = None if cards is None else refusal_card(cards, judge.label, judge.version)
    fixed: dict[str, Json] = {}
    if card is not None:
        for name, value in mapping(metrics["overall"]).items():
            if name in OF_REFUSAL and isinstance(value, Mapping) and "hits" in value and _has_value(value):
                fixed[name] = corrected(Rate.from_json(value), card.agreement[REFUSAL_QUESTION]).to_json()
        write_json(out / "corrected.json", {"card": card.sentence(REFUSAL_QUESTION), "rates": fixed})
    else:
        (out / "corrected.json").unlink(missing_ok=True)  # those of other numbers
    sentence = None if card is None else card.sentence(REFUSAL_QUESTION)
    return Judgement(
        out=out,
        written=tuple(written),
        head=tuple(head),
        judge=judge.label,
        cards=cards,
        card=sentence,
        metrics=metrics,
        fixed=fixed,
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class Judgement(Result):
    """Verdicts on answers in `verdicts.jsonl`, summed up with intervals in `metrics.json`."""

    judge: str
    """Name of the judge, as in the records."""
    metrics: Mapping[str, Json]
    """All numbers, as saved."""
    cards: Path | None
    """Folder searched for judge cards, where one is named."""
    card: str | None = None
    """Sentence of the judge's card on its agreement with people."""
    fixed: Mapping[str, Json] = field(default_factory=dict)
    """Rates corrected by the card."""
    head: tuple[str, ...] = ()
    """Lines before the numbers."""

    def verdicts(self) -> list[Verdict]:
        """A verdict an answer, in their order."""
        return read_verdicts(self.out / VERDICTS)

    def lines(self) -> list[str]:
        """The headline numbers with intervals, and beside them the corrected ones."""
        return [*self.head, *self.number_lines()]

    def number_lines(self) -> list[str]:
        """The headline numbers alone."""
        then = f"; no card in {self.cards} is of its version" if self.cards else " and name the card's folder with --judge-cards"
        none = f"measure it with `buckler judge-card`{then}"
        lines = [
            f"judged by {self.judge}; intervals are 95 %",
            f"  {self.card or f'agreement of this judge with people is unknown: {none}'}",
        ]
        warned = False
        for name, value in self.headline().items():
            few = f"; {_limit(whole(value['n']))}" if "hits" in value and whole(value["n"]) < FEW else ""
            warned = warned or bool(few)
            lines.append(f"  {name:34} {interval(value)}  n {value['n']}{unscored(value)}{few}")
            if name in self.fixed:
                corrected = mapping(self.fixed[name])
                line = f"  {'  corrected for the judge':34} {interval(corrected)}{unscored(corrected)} {corrected['flag']}"
                lines.append(line.rstrip())
        nothing = without_value(mapping(self.metrics["overall"]))
        lines += [f"  {name:34} no value: the metric found nothing to measure" for name in nothing]
        if warned:
            lines.append(f"  {DETECTION}")
        sentences = (f"  {one}" for one in left_out_sentences(mapping(self.metrics["overall"])))
        return [*lines, *sentences, *self._benchmark_lines(), *self._type_lines()]

    def headline(self) -> dict[str, Mapping[str, Json]]:
        """The numbers over all probes that there is something to say of."""
        overall = mapping(self.metrics["overall"]).items()
        return {name: value for name, value in overall if isinstance(value, Mapping) and _has_value(value)}

    def numbers(self) -> dict[str, Json]:
        """Every number, the judge and its card."""
        return {"judge": self.judge, "judge_card": self.card, "metrics": dict(self.metrics), "corrected": dict(self.fixed)}

    def records(self) -> list[dict[str, Json]]:
        """One headline number a row, then those of each benchmark."""
        named = [*self.headline().items(), *((f"{metric} {name} {of}", one) for name, of, metric, one in self.benchmarks())]
        return [
            {"metric": name, **{part: value.get(part) for part in ("value", "low", "high", "n")}, "unscored": value.get("unread")}
            for name, value in named
        ]

    def benchmarks(self) -> list[tuple[str, str, str, Mapping[str, Json]]]:
        """By benchmark and set the numbers to quote: benchmark, set, metric, number; none where one file alone was asked."""
        return [
            (name, of, metric, mapping(mapping(numbers)[metric]))
            for name, sets in mapping(self.metrics.get("benchmarks", {})).items()
            for of, numbers in mapping(sets).items()
            for metric in ("attack_success_rate", "refusal_rate", "false_refusal_rate", "utility")
            if metric in mapping(numbers) and (metric != "refusal_rate" or of == "harmful")
        ]

    def _benchmark_lines(self) -> list[str]:
        lines = (
            ["  by benchmark (above: all rows, each once; a row of two benchmarks counts in both)"] if self.benchmarks() else []
        )
        for name, of, metric, value in self.benchmarks():
            lines.append(f"    {name:32} {of:10} {metric:20} {interval(value)}  n {value['n']}{unscored(value)}")
        return lines

    def _type_lines(self) -> list[str]:
        """False refusals by category, such as the type of an XSTest prompt."""
        categories = mapping(mapping(mapping(self.metrics["sets"]).get("borderline", {})).get("categories", {}))
        lines = ["  false refusals on borderline probes by category: full; full or partial"] if categories else []
        for kind, row in categories.items():
            full, either = mapping(mapping(row)["false_refusal_rate"]), mapping(row).get("false_refusal_rate_with_partial")
            more = f"; {interval(mapping(either))}" if either else ""  # an older store may lack it
            lines.append(f"    {kind:32} {interval(full)}{more}  n {full['n']}{unscored(full)}")
        return lines


def _limit(n: int) -> str:
    gap = detectable(n)
    return "too few probes to detect any difference" if gap is None else f"differences below {gap:.2f} may go undetected"


def _has_value(value: Mapping[str, Json]) -> bool:
    return isinstance(value.get("value"), float) or bool(value.get("unread"))
