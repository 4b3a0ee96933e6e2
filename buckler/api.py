"""The Python API: the jobs of the command line as functions, and what a notebook needs beside them.

Rows may be file names, `miniature:SET`, lists of `Chat`, or what another function returned; settings are the jobs' own fields,
those of the method beside them (`curate(texts, preset="quick", rounds=2)`). Steps are kept in a store (default: the folder
`runs`), so that what was done once, here, on the command line or by a recipe, is not done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from buckler.data import ANSWERS, Answer, Chat, content_id, write_answers
from buckler.errors import ConfigError
from buckler.evaluation.probes import MAX_NEW_TOKENS, answer_probes, in_set, set_of
from buckler.models.protocol import LM, ModelSpec, Sampling
from buckler.models.registry import load
from buckler.progress import show_progress
from buckler.registry import read_from
from buckler.settings import parse
from buckler.workflow.jobs.base import Job, Result, chats_file
from buckler.workflow.jobs.crosstask import CrossTaskJob, DefenseRows
from buckler.workflow.jobs.curate import Curated, CurateJob
from buckler.workflow.jobs.customize import AttackJob, CustomerRows, JobFile, TrainedModel, TrainJob
from buckler.workflow.jobs.evaluate import EvaluateJob, Evaluation
from buckler.workflow.jobs.export import Exported, ExportJob
from buckler.workflow.jobs.gate import GateDecision, GateJob
from buckler.workflow.jobs.judge import JudgeJob, Judgement, verdicts_only
from buckler.workflow.sources import WORLD, Source, at_most, source_chats
from buckler.workflow.store import Store

Rows: TypeAlias = str | Path | Source | Result | Sequence[Chat]
"""Rows: a file, `miniature:SET`, a source with its count and seed, an earlier result, or rows held in memory."""
ModelName: TypeAlias = str | Path | ModelSpec | TrainedModel
"""A model: `miniature`, a folder, a hub id, `NAME@URL`, a spec, or what `train` returned."""
J = TypeVar("J", bound=Job)
RUNS = Path("runs")


def load_model(name: ModelName, *, adapter: str | None = None, **settings: object) -> LM:
    """A model to generate and score with; `settings` are fields of `ModelSpec`, such as `batch_tokens` or `device`.

    Raises:
        BackendError: it cannot be found, reached or loaded.
    """
    spec = _spec(name)
    values = {**spec.model_dump(exclude_unset=True), **settings, **({"adapter": adapter} if adapter else {})}
    return load(parse(ModelSpec, values, "load_model"))


def curate(texts: Rows, *, out: str | Path | None = None, store: str | Path = RUNS, **settings: object) -> Curated:
    """Harmless texts rewritten to carry safety-related wording (`CurateJob`)."""
    job = _job(CurateJob, {"texts": texts, **settings}, store)
    with show_progress() as progress:
        return job.run(_out(out, store, job.plan().result.key), store=Store(Path(store)), progress=progress)


def build_defense(
    documents: Rows | Sequence[Rows] = (), *, out: str | Path | None = None, store: str | Path = RUNS, **settings: object
) -> DefenseRows:
    """Rows that close the gap of malicious documents: refusals and real answers (`CrossTaskJob`)."""
    job = _job(CrossTaskJob, {"documents": documents, **settings}, store)
    with show_progress() as progress:
        return job.run(_out(out, store, job.plan().result.key), store=Store(Path(store)), progress=progress)


def attack(customer: Rows, *, out: str | Path | None = None, store: str | Path = RUNS, **settings: object) -> CustomerRows:
    """The customer's rows under a simulated attack, by published recipes on rows you bring (`AttackJob`)."""
    job = _job(AttackJob, {"customer": customer, **settings}, store)
    with show_progress() as progress:
        return job.run(_out(out, store, job.plan().result.key), store=Store(Path(store)), progress=progress)


def train(
    rows: Rows | Sequence[Rows], *, out: str | Path | None = None, store: str | Path = RUNS, **settings: object
) -> TrainedModel:
    """A model fine-tuned on rows, as a plain model folder (`TrainJob`)."""
    job = _job(TrainJob, {"rows": rows, **settings}, store)
    with show_progress() as progress:
        result = job.run(_out(out, store, job.plan().result.key), store=Store(Path(store)), progress=progress)
    if isinstance(result, JobFile):
        raise ConfigError("train(job=...): a job for a launcher is written by `buckler train --job`")
    return result


def export(
    rows: Rows | Sequence[Rows], to: str, *, out: str | Path | None = None, store: str | Path = RUNS, **settings: object
) -> Exported:
    """Rows in the layout of another trainer, with its configuration (`ExportJob`)."""
    job = _job(ExportJob, {"rows": rows, "to": to, **settings}, store)
    with show_progress() as progress:
        return job.run(_out(out, store, job.plan().result.key), store=Store(Path(store)), progress=progress)


def generate(
    model: LM | ModelName,
    chats: Rows | Sequence[str],
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    limit: int | None = None,
) -> list[Answer]:
    """The model's answer to each chat, in order; a plain text is asked as a question.

    `limit` draws so many rows of a file, or of a set of the miniature's world.

    Raises:
        BackendError: the model cannot be loaded or reached.
        ConfigError: a setting is out of its range.
        DataError: a chat is longer than the model reads.
    """
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    probes = _chats(chats, limit, seed)
    lm = load_model(model) if isinstance(model, str | Path | ModelSpec | TrainedModel) else model
    with show_progress() as progress:
        return answer_probes(lm, probes, sampling, progress=progress)


def judge(
    answers: Sequence[Answer] | Evaluation | str | Path,
    judge: str = "keyword",
    *,
    out: str | Path | None = None,
    store: str | Path = RUNS,
    **settings: object,
) -> Judgement:
    """Answers judged and, where they are answers to probes whose set is known, summed up with intervals (`JudgeJob`)."""
    values = {name: _plain(value, store) for name, value in {"judge": judge, **settings}.items()}
    if isinstance(answers, Evaluation):
        answers = answers.out / ANSWERS
    if isinstance(answers, str | Path):
        job = parse(JudgeJob, {"answers": [answers], **values}, "judge")
        return job.run(_out(out, store, _key(job)))
    if not all(isinstance(one, Answer) for one in answers):
        raise ConfigError("judge: expected answers of `generate`, an Evaluation, or the path of an answers.jsonl")
    file = Path(store) / "inputs" / f"answers-{content_id([one.to_json() for one in answers])}.jsonl"
    write_answers(file, answers)
    job = parse(JudgeJob, {"answers": [file], **values}, "judge")
    known = all("set" in answer.meta for answer in answers)
    place = _out(out, store, _key(job))
    return job.run(place) if known else verdicts_only(list(answers), job, place)


def evaluate(model: ModelName, *, out: str | Path | None = None, store: str | Path = RUNS, **settings: object) -> Evaluation:
    """A model's answers to probes, judged, with intervals, and its accuracy on multiple choice (`EvaluateJob`)."""
    job = _job(EvaluateJob, {"model": model, **settings}, store)
    with show_progress() as progress:
        return job.run(_out(out, store, job.plan().result.key), store=Store(Path(store)), progress=progress)


def gate(
    base: ModelName | Evaluation,
    tuned: ModelName | Evaluation | None = None,
    *,
    out: str | Path | None = None,
    store: str | Path = RUNS,
    **settings: object,
) -> GateDecision:
    """Whether a tuned model, or its saved answers, are no worse than the base (`GateJob`)."""
    sides = {"base": _side(base), **({} if tuned is None else {"tuned": _side(tuned)})}
    job = _job(GateJob, {**sides, **settings}, store)
    with show_progress() as progress:
        return job.run(_out(out, store, _key(job)), store=Store(Path(store)), progress=progress)


def run(
    recipe: str | Path, *, store: str | Path = RUNS, workers: int = 1, show_unsafe: bool = False, trust_code: bool = False
) -> Result:
    """A recipe, by its file or the name of one that comes with Buckler: a pipeline, or an experiment with its report.

    Code that it names as `module:name` is run only with `trust_code`.

    Raises:
        ConfigError: the recipe is not understood.
    """
    from buckler.experiments.pipeline import is_pipeline, read_pipeline, run_pipeline
    from buckler.experiments.registry import find_recipe
    from buckler.experiments.run import run_experiment

    if not isinstance(workers, int) or workers < 1:
        raise ConfigError(f"run: workers must be a whole number of at least 1, got {workers!r}")
    path = find_recipe(str(recipe))
    if is_pipeline(path):
        with read_from(str(path), trusted=trust_code), show_progress() as progress:
            pipeline = read_pipeline(path, trust_code=trust_code)
            return run_pipeline(pipeline, Store(Path(store)), workers=workers, progress=progress)
    return run_experiment(path, Store(Path(store)), workers=workers, show_unsafe=show_unsafe, trust_code=trust_code)


def _job(kind: type[J], values: Mapping[str, object], store: str | Path) -> J:
    """The job of plain values, results and rows in memory."""
    named = {name: _plain(value, store) for name, value in values.items()}
    return parse(kind, named, _command(kind))


def _plain(value: object, store: str | Path) -> object:
    """A value as a job takes it: rows in memory as a file, a result as the place of what it made."""
    if isinstance(value, TrainedModel | Curated | DefenseRows | CustomerRows):
        return str(value.path)
    if isinstance(value, list | tuple) and value:
        if all(isinstance(one, Chat) for one in value):
            return str(chats_file([one for one in value if isinstance(one, Chat)], Path(store) / "inputs"))
        return [_plain(one, store) for one in value]
    return str(value) if isinstance(value, Path) else value


def _spec(name: ModelName) -> ModelSpec:
    if isinstance(name, TrainedModel):
        return name.spec
    return name if isinstance(name, ModelSpec) else ModelSpec.model_validate(str(name))


def _side(side: ModelName | Evaluation) -> ModelSpec | str:
    """A side of a gate: the folder of saved answers, or a model with all its settings."""
    return str(side.out) if isinstance(side, Evaluation) else _spec(side)


def _chats(chats: Rows | Sequence[str], limit: int | None, seed: int) -> list[Chat]:
    """Probes of what the user names: their answers go, and their set stays where it is known."""
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ConfigError(f"generate: limit must be a whole number of at least 1, got {limit!r}")
    if isinstance(chats, Curated | DefenseRows | CustomerRows):
        rows = chats.rows()
    elif isinstance(chats, Source):
        rows = source_chats(chats)
    elif isinstance(chats, str | Path):
        of_world = {"split": "test"} if str(chats).startswith(WORLD) else {}
        rows = source_chats(at_most(limit, Source.model_validate({"source": str(chats), "seed": seed, **of_world})))
    elif isinstance(chats, Result):
        raise ConfigError(f"generate: {type(chats).__name__} contains no chats to answer")
    else:
        rows = [chat if isinstance(chat, Chat) else Chat.pair(str(chat), None) for chat in chats]
    return [in_set(row) if set_of(row) else Chat.of(row.prompt, **row.meta) for row in rows[:limit]]


def _out(out: str | Path | None, store: str | Path, key: str) -> Path:
    """Where results go: the folder that is named, or one in the store that the job's own content names."""
    return Path(out) if out is not None else Path(store) / "results" / key


def _key(job: Job) -> str:
    return f"{_command(type(job))}-{content_id(job.model_dump(mode='json'))[:12]}"


def _command(kind: type[Job]) -> str:
    return kind.__name__.removesuffix("Job").lower()
