"""No damage to a recipe, settings, labels, saved results, a store or a model's files gives a traceback or a hang.

Each file is damaged by seed and read by what reads it: a value, or one clear line. Files of rows are in `test_formats_mutations`.
A failure names its file and seed: `survive(tmp_path, NAME, range(SEED, SEED + 1))` repeats it. `make campaign` does 100,000.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
from test_formats_mutations import LARGEST, MANY, MUTATIONS, at_most

from buckler.crosstask.tasks import read_tasks, scorers
from buckler.curation.lexicon import read_lexicon
from buckler.data import planned_digest, read_answers, read_chats, read_documents, read_json, read_jsonl, read_verdicts
from buckler.errors import BucklerError, InternalError
from buckler.evaluation.metrics import summarise
from buckler.evaluation.scores import score_answers
from buckler.experiments.collect import collect_again
from buckler.experiments.pages import section
from buckler.experiments.pipeline import is_pipeline, read_pipeline
from buckler.experiments.registry import packaged, read_recipe
from buckler.experiments.results import read_results
from buckler.experiments.run import list_runs
from buckler.formats import read_chats as rows_of
from buckler.gating.decision import read_settings as read_margins
from buckler.judges.card import card_from_json, markdown
from buckler.judges.labels import read_labels
from buckler.models.checkpoint import Checkpoint, header
from buckler.models.template_check import read_template
from buckler.report.page import to_json, to_markdown_page
from buckler.workflow.harness import read_results as harness_results
from buckler.workflow.inputs import trained_spec
from buckler.workflow.store import Store

TESTS = Path(__file__).parent
FEW = 6
EXPECTED = TESTS / "golden" / "expected"


class Target(NamedTuple):
    """A file that is damaged, and what reads it."""

    name: str
    raw: bytes
    read: Callable[[Path], object]
    beside: Mapping[str, bytes] = MappingProxyType({})
    """Files that lie around it, by their place."""


def report(path: Path) -> object:
    results = read_results(read_json(path), str(path))
    sections = [section(results, show_unsafe=True)]
    return to_markdown_page(sections, "t"), json.dumps(to_json(sections, "t"), allow_nan=False)


def again(path: Path) -> object:
    results = read_results(read_json(path), str(path))
    return section(collect_again(results, Store(path.parent / "runs")), show_unsafe=True)


def card(path: Path) -> object:
    return markdown(card_from_json(read_json(path), str(path)))


def judged(path: Path) -> object:
    answers, verdicts = read_answers(path.with_name("answers.jsonl")), read_verdicts(path.with_name("verdicts.jsonl"))
    return json.dumps(summarise(answers, verdicts, score_answers(answers, scorers())), allow_nan=False)


def examined(folder: Path) -> object:
    found = Checkpoint(folder)
    return found.config, found.architecture, found.quantization, found.template, found.vocabulary, found.setting("vocab_size")


def held(path: Path) -> object:
    root = path.parents[2]
    return list_runs(root), Store(root).seconds_of("train")


MARKER = {"name": "train", "title": "t", "version": 1, "params": {}, "outside": {}, "inputs": {"rows": "draw-1"}, "seconds": 1.5}
LABELLED = {"model": "m", "attack": "explicit", "defence": "none", "stage": "none", "seed": 0}
AGAIN = {
    "name": "stages",
    "kind": "stages",
    "seeds": [0],
    "arms": [
        {
            "labels": {**LABELLED, **more},
            "metrics": {},
            "training": [],
            "steps": {"answers": "a-1", "verdicts": "a-1", "metrics": "a-1"},
        }
        for more in ({}, {"seed": 1}, {"defence": "curated", "stage": "post"})
    ],
    "judge_card": None,
    "rows": [{"labels": {name: value for name, value in LABELLED.items() if name != "seed"}}],
    "record": {"judge": {"name": "keyword", "version": "6"}, "recipe": {"kind": "stages"}},
}
RESULTS = {"name": "stages", "arms": [{"labels": {"seed": 0}, "steps": {"answers": "a-1", "verdicts": "v-1", "metrics": "m-1"}}]}
TASKS = b"""keywords:
  wordings: {back: "{document} Keywords?"}
  metric: rouge_l
topics:
  wordings: {plain: {user: "Topic of: {document}", system: Be brief.}}
  metric: accuracy
  labels: ["yes", "no"]
"""
PIPELINE = b"""kind: pipeline
name: hardening
steps:
  - curate: {texts: texts.jsonl, preset: quick, rounds: 2}
    name: curated
  - train: {rows: ["@curated", customer.jsonl], train: {method: lora, learning_rate: 1.0e-4}}
    name: tuned
  - evaluate: {model: "@tuned", probes: [xstest.csv]}
"""
MARGINS = b"""# What the gate allows.
alpha: 0.05
margins: {safety: 0.02, utility: off, coherence: 0.1}
"""
LEXICON = b"""care: [be careful, check first, {term: look twice, company: 0.5, sentences: [Look twice.]}]
anchors: &a [stop, ask]
again: *a
"""
LABELS = b'prompt,text,label,model,category\r\nHow?,No.,full,a,x\r\nWhy?,"Well, so",no,b,y\r\nWhy?,,partial,b,\r\n'
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 64,
    "eos_token_id": [1, 2],
    "hidden_size": 8,
    "model_type": "llama",
}
HEADER = {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}


def _rows(name: str) -> bytes:
    return b"".join((EXPECTED / name).read_bytes().splitlines(keepends=True)[:4])


def _compact(raw: bytes) -> bytes:
    """On one line, so that single values of it are changed."""
    return json.dumps(json.loads(raw)).encode()


def _safetensors() -> bytes:
    text = json.dumps(HEADER).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


def whole_lines(path: Path, count: int) -> bytes:
    """The first lines of a file."""
    return b"".join(path.read_bytes().splitlines(keepends=True)[:count])


def targets() -> list[Target]:
    """Every file that is damaged."""
    results = {"stages": _compact((TESTS / "fixtures" / "results_stages.json").read_bytes())}
    for name in ("cross_task", "attacker"):
        results[name] = _compact(gzip.decompress((EXPECTED / f"run-{name}" / f"results-golden_{name}.json.gz").read_bytes()))
    answers, verdicts = _rows("evaluate/answers.jsonl"), _rows("evaluate/verdicts.jsonl")
    recipe = {name: path.read_bytes() for name, path in packaged().items() if name != "pipeline"}
    step = {f"runs/steps/{name}/step.json": json.dumps({**MARKER, "inputs": {}}).encode() for name in ("draw-1", "train-2")}
    kept = {"runs/steps/a-1/answers.jsonl": answers, "runs/steps/a-1/verdicts.jsonl": verdicts}
    found = {"results": {"task": {"acc": 0.5, "acc_stderr": float("nan")}}}
    return [
        *(Target(f"{name}.yaml", raw, read_recipe) for name, raw in recipe.items()),
        Target("pipeline.yaml", PIPELINE, lambda path: (is_pipeline(path), read_pipeline(path))),
        Target("margins.yaml", MARGINS, read_margins),
        Target("tasks.yaml", TASKS, read_tasks),
        Target("words.yaml", LEXICON, read_lexicon),
        Target("labels.csv", LABELS, lambda path: read_labels([path])),
        Target("labels.jsonl", whole_lines(EXPECTED.parent / "inputs" / "labels.jsonl", 7), lambda path: read_labels([path])),
        Target(
            "card.json",
            _compact((EXPECTED / "judge-card" / "keyword-6.json").read_bytes()),
            card,
        ),
        *(Target(f"results-{name}.json", raw, report) for name, raw in results.items()),
        Target("results-again.json", json.dumps(AGAIN).encode(), again, kept),
        Target("answers.jsonl", answers, judged, {"verdicts.jsonl": verdicts}),
        Target("verdicts.jsonl", verdicts, judged, {"answers.jsonl": answers}),
        Target(
            "rows.jsonl",
            b'{"messages": [{"role": "user", "content": "a"}], "meta": {"x": 1}}\n' * 2,
            lambda path: list(read_chats(path)),
        ),
        Target("documents.jsonl", b'{"id": "a", "text": "b", "meta": {}}\n' * 2, read_documents),
        Target("rejected.jsonl", b'{"reason": "short", "text": "a"}\n' * 2, lambda path: list(read_jsonl(path))),
        Target("runs/steps/train-1/step.json", json.dumps(MARKER).encode(), held, step),
        Target("runs/steps/train-1/.lock", b'["draw-1", "train-2"]', held, step),
        Target("runs/reports/stages/results-stages.json", json.dumps(RESULTS).encode(), held, step),
        Target(
            "training.json",
            b'{"dtype": "float32", "threads": 1, "attn_implementation": null, "rows": 4}',
            lambda path: trained_spec(path.parent),
            {"model/config.json": json.dumps(CONFIG).encode()},
        ),
        Target("results_1.json", json.dumps(found).encode(), lambda path: harness_results(path.parent)),
        Target("config.json", json.dumps(CONFIG).encode(), lambda path: examined(path.parent)),
        Target("model.safetensors", _safetensors(), header),
        Target(
            "chat_template.jinja",
            b"{% for turn in messages %}{{ turn['role'] }}: {{ turn.content }}\n{% endfor %}",
            lambda path: read_template(str(path)),
        ),
        Target("digests.json", b'{"/a/b": [1, 2, 3, 4, 5, "abc"]}', lambda path: planned_digest(path)),
    ]


TARGETS = {one.name: one for one in targets()}


def other_line(rng: random.Random, raw: bytes) -> bytes:
    """A line of YAML with another value, another key, or at another depth."""
    lines = raw.splitlines(keepends=True) or [b""]
    at = rng.randrange(len(lines))
    key, colon, _ = lines[at].partition(b":")
    odd = rng.choice(ODD)
    changed = [
        key + colon + b" " + odd + b"\n",
        odd + b": " + lines[at].strip() + b"\n",
        b"  " + lines[at],
        lines[at].lstrip(),
        lines[at] * 2,
    ]
    lines[at] = rng.choice(changed)
    return b"".join(lines)


ODD = [
    *(
        b"2020-13-45",
        b"2026-01-01",
        b"? [a, b]",
        b"!!int abc",
        b"!!timestamp x",
        b"!!python/name:os.system",
        b"!!binary x",
        b"*a",
        b"&a [*a]",
    ),
    *(
        b"[" * 200,
        b"{a: " * 200,
        b"9" * 400,
        b".nan",
        b"-.inf",
        b"1:30",
        b"010",
        b"0b_",
        b"yes",
        b"no",
        b"~",
        b"=",
        b"<<",
        b"<<: *a",
        b"'",
        b'"',
    ),
    *(
        b'"\\ud800"',
        b'"\\0"',
        b"|",
        b">-",
        b"%YAML 9.9",
        b"---",
        b"...",
        b"@x",
        b"`",
        b"[]",
        b"{}",
        b"[1, [2]]",
        b"{a: {b: c}}",
        b"1e999",
    ),
    *(
        b"-1",
        b"0",
        b"1.5",
        b"99999999999999999999",
        b"a:b",
        b"module:name",
        b"../../x",
        b"/dev/zero",
        b"",
        b" ",
        b"\t",
        b"\xff",
        b"# x",
    ),
]


def survive(folder: Path, name: str, seeds: range) -> None:
    """Damage a file once to four times, once a seed, and read it."""
    target, whole = TARGETS[name], 0
    path = folder / target.name
    for place, raw in {**target.beside, target.name: b""}.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(raw)
    path.write_bytes(target.raw)
    target.read(path)
    mutations = (*MUTATIONS[:5], *(other_line,) * 4) if path.suffix == ".yaml" else MUTATIONS
    for seed in seeds:
        rng = random.Random(f"{target.name} {seed}")
        damaged = target.raw
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            damaged = rng.choice(mutations)(rng, damaged or b"x")[:LARGEST]
        path.write_bytes(damaged)
        try:
            with at_most(20):
                target.read(path)
            whole += 1
        except BucklerError as fault:
            assert not isinstance(fault, InternalError) and "\n" not in str(fault), (
                name,
                seed,
                str(fault),
            )
        except Exception as fault:
            raise AssertionError(f"{name}, seed {seed}: {type(fault).__name__}: {fault}\n{damaged[:500]!r}") from fault
    assert whole or len(seeds) < 100, "not one damaged file could be read: they are damaged too much to test anything"


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, name, capsys):
    survive(tmp_path, name, range(FEW))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_files_damaged_in_two_thousand_ways_are_read_or_refused_in_one_line(tmp_path, name, capsys):
    survive(tmp_path, name, range(FEW, FEW + MANY))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data-00000-of-00001.arrow", "state.json", "dataset_info.json", "dataset_dict.json"])
def test_damaged_data_sets_on_disk_are_read_or_refused_in_one_line(tmp_path, name):
    from datasets import Dataset, DatasetDict

    saved = Dataset.from_list([{"instruction": "a", "input": "", "output": "b", "index": at} for at in range(3)])
    whole = DatasetDict({"train": saved}) if name == "dataset_dict.json" else saved
    whole.save_to_disk(tmp_path / "data")
    raw = (tmp_path / "data" / name).read_bytes()
    TARGETS["data set"] = Target("data/" + name, raw, lambda path: rows_of(path.parent))
    survive(tmp_path, "data set", range(MANY // 4))
