"""Curation as steps: blocks of texts, each whole on disk before the next, and the joining of shards."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from buckler.curation.curator import UNREADABLE, Curator
from buckler.curation.gates import ProbeOverlap
from buckler.curation.helpfulness import Helpfulness, LocalHelpfulness, RubricHelpfulness
from buckler.curation.lexicon import LEXICON, read_lexicon
from buckler.curation.record import COUNTS, REJECTED, join
from buckler.curation.settings import CurateSettings
from buckler.data import ROWS, Chat, read_chats, read_jsonl, to_learn, write_json
from buckler.errors import DataError
from buckler.judges.refusal.keyword import KeywordJudge
from buckler.miniature.words import SEED_WORDS
from buckler.models.protocol import LM, ScoreRequest
from buckler.progress import ProgressCallback
from buckler.settings import Settings
from buckler.workflow.inputs import ModelRef, load_model
from buckler.workflow.step import NoSettings, Outside, Run, Step, numbered, step

BLOCK = 64
"""Texts curated together: what is held in memory at once."""
ROLES = ("model", "reviser", "judge", "reference", "proxy")


class CurateStep(Settings):
    """A curation, or one shard of it."""

    curation: CurateSettings
    seed: int
    keyword: str
    """The version of the refusal judge: no candidate may refuse, so how refusals are read is part of a curation."""
    shard: tuple[int, int] | None = None
    """The i-th of n runs of texts."""


class SampleStep(Settings):
    """The first texts of a curation, timed."""

    curation: CurateSettings
    seed: int
    keyword: str
    texts: int


class CompromisedStep(Settings):
    """The check that an attack took."""

    least: float
    """Nats a token by which the attack must lower the loss of its own answers."""


class CurationSample(BaseModel):
    """What a timed sample left: sample.json."""

    texts: int
    seconds: float
    counts: dict[str, int]


@step("curate", version=2)
def curate(run: Run[CurateStep]) -> None:
    """Texts -> curated rows, rejected candidates with reasons, counts; ordered by the id of the text.

    Rows do not depend on what else is curated, so any number of shards gives the same bytes.
    """
    settings, texts = run.settings, _texts(run)
    if settings.shard is not None:
        index, shards = settings.shard
        texts = texts[index * len(texts) // shards : (index + 1) * len(texts) // shards]
    curator: Curator | None = None
    parts: list[Path] = []
    for start in range(0, len(texts), BLOCK):
        part = run.out / "blocks" / f"{start:08}"
        parts.append(part)
        if not (part / COUNTS).exists():
            curator = curator or _curator(run, settings.curation, settings.seed)
            block = texts[start : start + BLOCK]
            curator.curate(block, _within(run.progress, start, len(texts), len(block))).write(part)
        run.progress("texts", min(start + BLOCK, len(texts)), len(texts))
    _write_result(parts, run.out, whole=settings.shard is None)


@step("gather")
def gather(run: Run[NoSettings]) -> None:
    """Shards of a curation -> one."""
    _write_result([run.inputs[name] for name in sorted(run.inputs)], run.out, whole=True)


@step("sample")
def sample(run: Run[SampleStep]) -> None:
    """The first texts, curated and timed -> sample.json: what a curation of all of them will cost."""
    texts = _texts(run)[: run.settings.texts]
    curator = _curator(run, run.settings.curation, run.settings.seed)
    started = time.monotonic()
    result = curator.curate(texts, run.progress)
    seconds = time.monotonic() - started
    write_json(run.out / "sample.json", {"texts": len(texts), "seconds": seconds, "counts": dict(result.counts)})


@step("compromised")
def compromised(run: Run[CompromisedStep]) -> None:
    """The aligned model, its attacked copy and the attack's rows -> proof that the simulated attack had an effect, or an error.

    The mechanism of a proxy is that harm has become likely to it: the mean log-perplexity of the attack's answers must have
    fallen by `least` nats a token.
    """
    rows = to_learn(read_chats(run.inputs["rows"] / ROWS))
    pairs = [ScoreRequest(messages=row.prompt, answer=row.answer or "") for row in rows]
    loss: dict[str, float] = {}
    for name in ("model", "proxy"):
        scores = load_model(run, name).score(pairs)
        loss[name] = sum(score.nll for score in scores) / max(sum(one.tokens for one in scores), 1)
    if loss["model"] - loss["proxy"] < run.settings.least:
        raise DataError(
            f"the simulated attack had no effect: the loss on its rows is {loss['model']:.2f} nats per token for the model and "
            f"{loss['proxy']:.2f}; raise --attack-epochs or --attack-learning-rate, or give more --attack-rows"
        )
    write_json(run.out / "compromised.json", {**loss})


@dataclass(frozen=True, slots=True, kw_only=True)
class Curation:
    """What a curation is made with: settings, texts, and a model for each role (the model itself where none is named)."""

    settings: CurateSettings
    texts: Step
    model: ModelRef
    reviser: ModelRef | None = None
    judge: ModelRef | None = None
    reference: ModelRef | None = None
    proxy: ModelRef | None = None
    probes: tuple[Step, ...] = ()
    """Rows that no candidate may be a near-duplicate of."""
    seed: int = 0

    @property
    def roles(self) -> dict[str, ModelRef]:
        """The models that count; the proxy and the reference only where the settings ask for them."""
        roles = {"model": self.model, "reviser": self.reviser, "judge": self.judge}
        roles["reference"] = self.reference if self.settings.scorer == "reference" else None
        roles["proxy"] = self.proxy if self.settings.needs_proxy else None
        return {name: one for name, one in roles.items() if one is not None}

    @property
    def inputs(self) -> dict[str, Step]:
        """Texts, probes and the models that steps made."""
        inputs = {"texts": self.texts, **numbered("probes", self.probes)}
        for role, model in self.roles.items():
            inputs |= model.inputs(role)
        return inputs

    @property
    def outside(self) -> dict[str, Outside]:
        """The models that are there already."""
        outside: dict[str, Outside] = {}
        for role, model in self.roles.items():
            outside |= model.places(role)
        return outside


def curated_rows(curation: Curation, shards: int = 1) -> Step:
    """Curated rows; the number of shards, which workers may share, changes nothing in them."""
    title = f"curated rows ({curation.settings.direction}), seed {curation.seed}"
    settings = CurateStep(curation=curation.settings, seed=curation.seed, keyword=KeywordJudge.version)
    if shards == 1:
        return curate.plan(settings, title=title, inputs=curation.inputs, outside=curation.outside)
    parts = [
        curate.plan(
            settings.model_copy(update={"shard": (at, shards)}),
            title=f"{title}, shard {at + 1} of {shards}",
            inputs=curation.inputs,
            outside=curation.outside,
        )
        for at in range(shards)
    ]
    return gather.plan(NoSettings(), title=title, inputs=numbered("part", parts))


def curation_sample(curation: Curation, texts: int) -> Step:
    """The first texts of a curation, timed."""
    settings = SampleStep(curation=curation.settings, seed=curation.seed, keyword=KeywordJudge.version, texts=texts)
    return sample.plan(settings, title=f"the first {texts} texts, timed", inputs=curation.inputs, outside=curation.outside)


def proof_of_attack(rows: Step, model: ModelRef, proxy: ModelRef, least: float) -> Step:
    """The proof that an attacked copy finds the attack's rows likelier than the model does."""
    return compromised.plan(
        CompromisedStep(least=least),
        title="the simulated attack had an effect",
        inputs={"rows": rows, **model.inputs(), **proxy.inputs("proxy")},
        outside={**model.places(), **proxy.places("proxy")},
    )


def seed_words(settings: CurateSettings) -> list[str]:
    """The seed words a curation draws from."""
    if settings.seed_words == "miniature":
        return list(SEED_WORDS)
    lexicon = read_lexicon(LEXICON if settings.seed_words == "default" else Path(settings.seed_words))
    return [word for words in lexicon.values() for word in words]


def _texts(run: Run[Settings]) -> list[Chat]:
    return sorted(to_learn(read_chats(run.inputs["texts"] / ROWS)), key=lambda text: text.id)


def _curator(run: Run[Settings], settings: CurateSettings, seed: int) -> Curator:
    """The models and words of a step: roles that are not named fall to the model itself."""
    models = {role: load_model(run, role, shared=True) for role in ROLES if run.has(role)}
    rater = models.get("judge") or models.get("reviser") or models["model"]
    return Curator(
        settings=settings,
        words=seed_words(settings),
        model=models["model"],
        judge=_helpfulness(settings, rater, seed),
        reviser=models.get("reviser"),
        reference=models.get("reference"),
        proxy=models.get("proxy"),
        near_probe=_near_probe(run),
        seed=seed,
    )


def _helpfulness(settings: CurateSettings, rater: LM, seed: int) -> Helpfulness:
    return LocalHelpfulness() if settings.helpfulness == "local" else RubricHelpfulness(rater, seed, settings.per_aspect)


def _near_probe(run: Run[Settings]) -> Callable[[Chat], str | None] | None:
    folders = run.all_inputs("probes")
    return ProbeOverlap([row for folder in folders for row in read_chats(folder / ROWS)]).near if folders else None


def _within(progress: ProgressCallback, start: int, total: int, size: int) -> ProgressCallback:
    """Progress inside a block, shown with the block's place."""

    def shown(what: str, done: int, of: int) -> None:
        progress(f"texts {start + 1}-{start + size} of {total}, {what}", done, of)

    return shown


def _write_result(parts: Sequence[Path], out: Path, *, whole: bool) -> None:
    counts = join(parts, out)
    if whole and not counts["revised"] + counts["kept original"]:
        first = next((row for _, row in read_jsonl(out / REJECTED)), None)
        why = f"; the first: {first['reason']}" if isinstance(first, Mapping) else ""
        if why.endswith(UNREADABLE):
            why += " (`helpfulness: local` needs no model that rates)"
        raise DataError(f"none of the {counts['texts']} texts could be curated{why}")
    shutil.rmtree(out / "blocks", ignore_errors=True)
