"""Commands over whole experiments and what they leave: recipes, reports, stores, this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from buckler.cli.build import Command, CommandResult, Outcome
from buckler.cli.doctor import examine
from buckler.cli.doctor_model import describe
from buckler.cli.options import Layout
from buckler.cli.recipes import beginning, listed, write_recipe
from buckler.data import Json, read_json
from buckler.errors import ConfigError, DataError
from buckler.experiments.base import CommonRecipe
from buckler.experiments.pages import write_report
from buckler.experiments.pipeline import dry_run_lines, is_pipeline, read_pipeline, run_pipeline
from buckler.experiments.registry import find_recipe, read_recipe
from buckler.experiments.results import read_results
from buckler.experiments.run import demo_recipes, dry_run, existing, list_runs, prune_runs, recompute, run_recipes
from buckler.models.dtype import Dtype
from buckler.progress import Display
from buckler.registry import places_in, read_from
from buckler.settings import Settings
from buckler.workflow.store import Store


class StoreSettings(Settings):
    """Where finished steps are kept."""

    store: Path = Path("runs")
    """Folder of finished steps; results found there are reused."""


class DemoSettings(StoreSettings):
    """The demo."""

    dtype: Dtype | None = None
    """Arithmetic of the recipe's local models that name none (default: `auto`; see `buckler train --help`)."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of each process that loads a model (default: `OMP_NUM_THREADS`, else 1)."""
    workers: int = Field(default=2, ge=1)
    """Number of local worker processes, one thread each; use 1 on a single GPU."""
    dry_run: bool = False
    """Show the plan and its cost; run nothing."""
    show_unsafe: bool = False
    """Show unsafe answers in the report instead of redacting them."""


class RunSettings(DemoSettings):
    """A recipe, and what is changed in it."""

    option_names: ClassVar[Mapping[str, str]] = {"set": "changes"}
    recipe: str
    """Recipe: a file, or the name of a packaged recipe (see `buckler recipes`)."""
    model: str | None = None
    """Model to use instead of the recipe's."""
    judge: str | None = None
    """Judge to use instead of the recipe's; saved answers are judged again."""
    judge_cards: Path | None = None
    """Folder of judge cards to use instead of the recipe's."""
    cluster: str | None = None
    """Ray address (auto or ray://HOST:PORT); the store must be on a file system that all machines share."""
    changes: tuple[str, ...] = Field(default=(), json_schema_extra={"panel": "Run"})
    """Change to the recipe: SETTING=VALUE, with the setting's dotted name and a YAML value, such as curation.rounds=3; may be
    repeated."""
    trust_code: bool = False
    """Run code that the recipe names as `module:name`."""


class RecipesSettings(Settings):
    """The recipes that come with Buckler."""


class InitSettings(Settings):
    """The user's files."""

    texts: str = Field(json_schema_extra={"panel": "Data"})
    """Harmless question/answer rows to curate."""
    customer: str = Field(json_schema_extra={"panel": "Data"})
    """Rows that the customer trains on."""
    harmful: str = Field(json_schema_extra={"panel": "Data"})
    """Harmful question/answer pairs for the simulated attack."""
    probes: tuple[str, ...] = Field(min_length=1, json_schema_extra={"panel": "Data"})
    """Probe file; write harmful=FILE, borderline=FILE or benign=FILE if its rows do not name their probe set."""
    model: str
    """Model to be customized: a local folder or a hub id."""


class ReportSettings(Settings):
    """Saved results."""

    results: tuple[Path, ...] = Field(min_length=1)
    """Results files (results-*.json) written by `buckler run`."""
    title: str = "Buckler"
    """Title of the report."""
    store: Path | None = None
    """Store of the run; if given, every number is recomputed from saved answers and verdicts, without a model."""
    show_unsafe: bool = False
    """Show unsafe answers in the report instead of redacting them."""
    trust_code: bool = False
    """Run code that the results name as `module:name`."""


class RunsSettings(StoreSettings):
    """What is done with a store."""

    action: Literal["list", "prune"] = "list"
    """`list` what the store holds, with sizes; `prune` (after asking) weights of which everything is made that was to be made."""
    yes: bool = Field(default=False, json_schema_extra={"panel": "Run"})
    """Prune without asking."""


def demo(settings: DemoSettings, out: Path, progress: Display) -> CommandResult:
    """The packaged recipes of the demo."""
    recipes_ = [recipe.loaded_so(settings.dtype, settings.threads) for recipe in demo_recipes()]
    return _run(recipes_, "demo", settings, None)


def run(settings: RunSettings, out: Path, progress: Display) -> Outcome:
    """One recipe."""
    path, changes = find_recipe(settings.recipe), settings.changes
    typed = places_in(" ".join((settings.model or "", settings.judge or "", *changes)))
    with read_from(str(path), trusted=settings.trust_code, allowed=typed):
        return _run_pipeline(path, settings, progress) if is_pipeline(path) else _run_recipe(path, settings, changes)


def _run_recipe(path: Path, settings: RunSettings, changes: Sequence[str]) -> CommandResult:
    recipe = read_recipe(
        path,
        model=settings.model,
        judge=settings.judge,
        judge_cards=settings.judge_cards,
        dtype=settings.dtype,
        threads=settings.threads,
        changes=changes,
        trust_code=settings.trust_code,
    )
    return _run([recipe], recipe.name, settings, settings.cluster)


def _run_pipeline(path: Path, settings: RunSettings, progress: Display) -> Outcome:
    if settings.model or settings.judge or settings.judge_cards or settings.dtype or settings.threads or settings.changes:
        raise ConfigError(
            f"{path}: --model, --judge, --judge-cards, --dtype, --threads and --set do not apply to a pipeline; "
            "edit its steps in the file"
        )
    recipe, store = read_pipeline(path, trust_code=settings.trust_code), Store(settings.store)
    if settings.dry_run:
        lines = dry_run_lines(recipe, store)
        return CommandResult(text=lines, values={"recipe": recipe.name, "plan": [line.strip() for line in lines]})
    return run_pipeline(recipe, store, workers=settings.workers, cluster=settings.cluster, progress=progress)


def _run(recipes: Sequence[CommonRecipe], name: str, settings: DemoSettings, cluster: str | None) -> CommandResult:
    store = Store(settings.store)
    if settings.dry_run:
        return CommandResult(values=dry_run(recipes, store))
    shown = settings.show_unsafe
    page = run_recipes(recipes, store, workers=settings.workers, cluster=cluster, name=name, show_unsafe=shown)
    results: list[Json] = [str(path) for path in sorted(page.parent.glob("results-*.json"))]
    return CommandResult(values={"report": str(page), "results": results})


def recipes(settings: RecipesSettings, out: Path, progress: Display) -> CommandResult:
    """A line for each packaged recipe."""
    recipes_ = listed()
    width = max(len(name) for name in recipes_)
    lines = [f"{name:{width}}  {kind:10}  {about}" for name, (kind, about) in recipes_.items()]
    values: dict[str, Json] = {name: {"kind": kind, "about": about} for name, (kind, about) in recipes_.items()}
    return CommandResult(
        text=[*lines, "", "run one with `buckler run NAME`; `buckler init` writes a recipe for your own files"], values=values
    )


def init(settings: InitSettings, out: Path, progress: Display) -> CommandResult:
    """A recipe file."""
    write_recipe(out, **settings.model_dump())
    return CommandResult(text=[f"wrote {out}; next: buckler run {out} --dry-run"], values={"recipe": str(out)})


def report(settings: ReportSettings, out: Path, progress: Display) -> CommandResult:
    """The pages again."""
    read = []
    for path in settings.results:
        value = read_json(path)
        if not isinstance(value, dict) or "arms" not in value:
            raise DataError(f"{path}: not a results file of a run; pass STORE/reports/NAME/results-NAME.json")
        saved = read_results(value, str(path))
        with read_from(str(path), trusted=settings.trust_code):
            read.append(recompute(saved, settings.store, out) if settings.store else saved)
    with read_from("a file of results", trusted=settings.trust_code):
        written = write_report(read, out, title=settings.title, show_unsafe=settings.show_unsafe)
    files: list[Json] = [str(path) for path in written]
    return CommandResult(text=[f"wrote {path}" for path in written], values={"files": files})


def runs(settings: RunsSettings, out: Path, progress: Display) -> CommandResult:
    """What a store holds, or without what is not needed any more."""
    if "store" in settings.model_fields_set:
        existing(settings.store)
    if settings.action == "prune":
        return CommandResult(values=prune_runs(settings.store, yes=settings.yes))
    if settings.yes:
        raise ConfigError("runs: --yes is for `buckler runs prune`")
    return CommandResult(values=list_runs(settings.store))


class DoctorSettings(Settings):
    """What is examined."""

    option_names: ClassVar[Mapping[str, str]] = {"chat_template_kwargs": "chat_template_kwargs"}
    model: str | None = None
    """Model to examine instead of this installation: a folder, an adapter, a GGUF file, or a hub id that is downloaded."""
    adapter: str | None = None
    """PEFT adapter on that model."""
    chat_template: str | None = None
    """File with a Jinja chat template, in place of the tokenizer's own."""
    chat_template_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the chat template, such as {enable_thinking: false}."""


def doctor(settings: DoctorSettings, out: Path, progress: Display) -> CommandResult:
    """What this machine has, or what a model's files hold."""
    if settings.model is not None:
        of_template = settings.model_dump(include={"chat_template", "chat_template_kwargs"})
        facts = describe(settings.model, settings.adapter, **of_template)
        return CommandResult(text=facts.lines(), values=facts.to_json(), exit_status=1 if facts.faults else 0)
    if settings.adapter is not None:
        raise ConfigError(f"--adapter {settings.adapter}: name its base model too, or give the adapter's folder as the model")
    if settings.chat_template or settings.chat_template_kwargs:
        raise ConfigError("--chat-template and --chat-template-kwargs are of a model; name it too")
    findings = examine()
    missing: list[Json] = list(findings.missing)
    return CommandResult(
        text=findings.lines(), values={"found": dict(findings.findings), "missing": missing}, exit_status=1 if missing else 0
    )


COMMANDS: dict[str, Command[Any]] = {
    "demo": Command(settings=DemoSettings, run=demo, out=None, examples=("buckler demo", "buckler demo --dry-run")),
    "run": Command(
        settings=RunSettings,
        run=run,
        out=None,
        layout=Layout(arguments=("recipe",), complete={"recipe": beginning}),
        examples=(
            "buckler run demo_stages --set seeds=[0] --dry-run",
            "buckler run recipe.yaml --model Qwen/Qwen2.5-7B-Instruct --store runs/",
        ),
    ),
    "recipes": Command(settings=RecipesSettings, run=recipes, out=None, examples=("buckler recipes", "buckler recipes --json")),
    "init": Command(
        settings=InitSettings,
        run=init,
        out=Path("recipe.yaml"),
        examples=(
            "buckler init --texts texts.jsonl --customer customer.jsonl --harmful pairs.jsonl --probes xstest.csv "
            "--model Qwen/Qwen2.5-7B-Instruct",
            "buckler init --texts texts.jsonl --customer customer.jsonl --harmful pairs.jsonl --probes harmful=advbench.csv "
            "--probes benign=questions.jsonl --model ./my-model --out my_recipe.yaml",
        ),
    ),
    "report": Command(
        settings=ReportSettings,
        run=report,
        layout=Layout(arguments=("results",)),
        out="Output directory.",
        examples=(
            "buckler report runs/reports/stages/results-stages.json --out report/",
            "buckler report results-one.json results-two.json --title Both --out report/",
        ),
    ),
    "runs": Command(
        settings=RunsSettings,
        run=runs,
        out=None,
        layout=Layout(arguments=("action",)),
        examples=("buckler runs --store /data/runs", "buckler runs prune --store /data/runs"),
    ),
    "doctor": Command(
        settings=DoctorSettings,
        run=doctor,
        out=None,
        layout=Layout(arguments=("model",)),
        examples=("buckler doctor", "buckler doctor miniature --json"),
    ),
}
