"""The job `curate`: harmless texts to rows that carry safety-related wording, with their rejections, controls and card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from buckler.curation.dataset_card import CURATED, About, dataset_card
from buckler.curation.record import COUNTS, REJECTED, current_counts
from buckler.curation.settings import CONTROLS, PRESETS, UNCURATED, CurateSettings, control
from buckler.data import ROWS, Chat, Json, each_chat, read_chats, read_jsonl, write_text
from buckler.evaluation.probes import set_of
from buckler.finetuning.settings import TrainSettings
from buckler.models.protocol import ModelSpec
from buckler.models.registry import SERVERS
from buckler.progress import ProgressCallback, no_progress
from buckler.workflow.curation import Curation, CurationSample, curated_rows, curation_sample, proof_of_attack
from buckler.workflow.executor import run_steps
from buckler.workflow.inputs import ModelRef
from buckler.workflow.jobs.base import Earlier, Planned, Result, count_lines, deliver, deliver_rows, read_object, store_of
from buckler.workflow.jobs.drawing import DrawingJob
from buckler.workflow.jobs.loading import OPTION_NAMES, AnsweringJob, model_of, with_adapter
from buckler.workflow.rows import defence_rows, probe_set, rows_of, training_phase
from buckler.workflow.sources import WORLD, Source
from buckler.workflow.sources import source_chats as read_source
from buckler.workflow.step import Step
from buckler.workflow.store import Store

LEAST_COMPROMISED = 0.1
"""Nats a token by which an attack must cheapen its own answers to count as one."""
ATTACK_TRAIN = TrainSettings(method="lora", epochs=5, learning_rate=1e-3, batch_size=8)
"""How a copy is attacked where nothing else is said: an adversary's training, not a careful one."""
ATTACK_ROWS = 50
"""Rows of a set of the miniature's world that a copy is attacked with."""


class CurateJob(AnsweringJob, DrawingJob):
    """Revision of harmless texts so that they carry safety-related wording: rows that harden the model they were made with."""

    method_fields = ("curation",)
    option_names = OPTION_NAMES["curate"]
    rejected_rows = "texts-rejected.jsonl"
    texts: Source
    """Harmless question/answer rows in any known format, or `miniature:SET`."""
    model: ModelSpec = ModelSpec(name="miniature")
    """Model to be protected: `miniature`, a local folder, a hub id, or `NAME@http://HOST:PORT/v1`."""
    adapter: str | None = None
    """PEFT adapter to load on the model."""
    preset: Literal["d2d", "ctrl", "contrast", "quick"] = "d2d"
    """Preset of the curation settings; `d2d`, `ctrl` and `contrast` generate at most 145 revisions per text, `quick` 12."""
    curation: CurateSettings = CurateSettings()
    """Settings of the curation; those given here override the preset."""
    reviser: ModelSpec | None = None
    """Model that rewrites the texts (default: the protected model)."""
    judge_model: ModelSpec | None = None
    """Model that rates helpfulness by rubric (default: the reviser)."""
    reference: ModelSpec | None = None
    """Aligned model that measures perplexity, for `scorer` reference."""
    proxy: ModelSpec | None = None
    """Compromised model, for direction contrast or `scorer` proxy."""
    attack_rows: Source | None = None
    """Harmful rows for a simulated attack; a copy of the model trained on them is the compromised proxy."""
    attack_train: TrainSettings = ATTACK_TRAIN
    """Training settings of the simulated attack; those not given here are an adversary's."""
    max_requests: int | None = Field(default=None, ge=1)
    """Budget for a served model, in requests (default: no limit)."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Budget for a served model, in prompt and generated tokens (default: no limit)."""
    controls: bool = False
    """Also write control data sets (uncurated, seed words only, perplexity only, ...) to `controls/`."""
    licence: str = ""
    """Licence of the source texts for the dataset card: an SPDX identifier such as cc-by-4.0."""
    workers: int = Field(default=1, ge=1)
    """Number of local worker processes, one thread each; the rows do not depend on it. Use 1 on a single GPU."""
    sample: int = Field(default=3, ge=0)
    """Number of texts that a dry run curates to estimate the time; 0 for none."""

    @model_validator(mode="before")
    @classmethod
    def _changes(cls, values: object) -> object:
        """The preset with the curation's settings that are named, and the adversary's training likewise."""
        values = cls.nested(values)
        if not isinstance(values, Mapping):
            return values
        preset = PRESETS.get(str(values.get("preset", "d2d")), PRESETS["d2d"])
        filled = dict(values)
        for name, base in (("curation", preset), ("attack_train", ATTACK_TRAIN)):
            values_ = values.get(name, {})
            if isinstance(values_, CurateSettings | TrainSettings):
                values_ = values_.model_dump(exclude_unset=True)
            if isinstance(values_, Mapping):
                filled[name] = {**base.model_dump(), **values_}
        return filled

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.curation.needs_proxy and self.proxy is None and self.attack_rows is None:
            raise ValueError(
                "this needs a compromised model: name one with --proxy, or give --attack-rows for a simulated attack"
            )
        if self.curation.scorer == "reference" and self.reference is None:
            raise ValueError("scorer reference needs an aligned model: name one with --reference")
        return self

    @property
    def models(self) -> dict[str, ModelSpec]:
        """By role: the model, and where they differ from it reviser, judge, reference and proxy; served ones with the budget."""
        named = {"reviser": self.reviser, "judge": self.judge_model, "reference": self.reference, "proxy": self.proxy}
        roles = {"model": with_adapter(self.model, self.adapter), **{role: spec for role, spec in named.items() if spec}}
        budget = {"max_requests": self.max_requests, "max_tokens": self.max_tokens}
        limits = {name: value for name, value in budget.items() if value is not None}
        return {role: spec.model_copy(update=limits) if spec.endpoint else spec for role, spec in roles.items()}

    def curation_steps(self, earlier: Earlier = {}) -> Curation:  # noqa: B006 - never changed
        """The steps' common part, with the attack on a copy where one is asked for."""
        roles = {role: model_of(spec, earlier) for role, spec in self.models.items()}
        if self.attack_rows is not None and "proxy" not in roles:
            rows = self._rows_of_attack(self.attack_rows, earlier)
            title = "the proxy: a copy under attack"
            roles["proxy"] = ModelRef(made_by=training_phase(self.attack_train, roles["model"], [rows], self.seed, title))
        probes = tuple(near_probes(name) for name in self.curation.decontaminate)
        texts = self.source_rows(self.texts, earlier)
        # What the probes are, the inputs tell.
        settings = self.curation.model_copy(update={"decontaminate": ()})
        return Curation(settings=settings, texts=texts, probes=probes, seed=self.seed, **roles)

    def _rows_of_attack(self, source: Source, earlier: Earlier) -> Step:
        """The attack's rows: the limit is on the texts to curate, not on these."""
        return self.model_copy(update={"limit": None}).source_rows(source, earlier, of_world=ATTACK_ROWS)

    def plan(self, earlier: Earlier = {}) -> Planned:  # noqa: B006 - never changed
        """The curated rows and the texts; with an attack on a copy, the check that it took.

        Raises:
            ConfigError, DataError, BackendError: a model or a file is not there.
        """
        curation = self.curation_steps(earlier)
        more: dict[str, Step] = {"texts": curation.texts}
        if self.attack_rows is not None and curation.proxy is not None and curation.proxy.made_by is not None:
            rows = self._rows_of_attack(self.attack_rows, earlier)
            more["attack"] = proof_of_attack(rows, curation.model, curation.proxy, LEAST_COMPROMISED)
        return Planned(result=curated_rows(curation, self.workers), gives="rows", more=more)

    def run(
        self,
        out: Path,
        *,
        store: Store | None = None,
        earlier: Earlier = {},  # noqa: B006 - never changed
        progress: ProgressCallback = no_progress,
    ) -> Curated:
        """Write `curated.jsonl`, `rejected.jsonl`, `counts.json`, the card, and controls if they are wanted.

        Raises:
            BucklerError: a model or a file is not there, or the attack on a copy did not take.
        """
        planned, store = self.plan(earlier), store_of(out, store)
        self.note_replaced(out, store, lambda: self.plan(earlier).targets)
        attack = () if self.attack_rows is None else (self.drawn(self.attack_rows, of_world=ATTACK_ROWS),)
        self.account_rows([self.drawn(self.texts)], out, also=attack, first=True)
        if "attack" in planned.more:
            run_steps([planned.more["attack"]], store, progress=progress)
        run_steps([planned.result], store, workers=self.workers, progress=progress)
        written = deliver_rows(store.folder(planned.result), CURATED, out)
        written += deliver(store.folder(planned.result), {REJECTED: REJECTED, COUNTS: COUNTS}, out)
        written += deliver(store.root / "shared", {SERVERS: SERVERS}, out)
        written.append(self._card(store.folder(planned.more["texts"]) / ROWS, out))
        controls, left_out = self._controls(out, store, earlier, progress) if self.controls else ([], [])
        written += controls
        self.keep_settings(out)
        return Curated(out=out, written=tuple(written), counts=_counts(out / COUNTS), left_out=tuple(left_out))

    def estimate(self, out: Path, *, store: Store | None = None, progress: ProgressCallback = no_progress) -> CurationCost:
        """The most that the curation can cost, and what it will by a timed sample of texts.

        What the sample asks is kept, so that the curation does not ask it again.
        """
        store, curation, settings = store_of(out, store), self.curation_steps(), self.curation
        if self.attack_rows is not None:
            run_steps([self.plan().more["attack"]], store, progress=progress)
        run_steps([curation.texts], store, progress=progress)
        total = len(read_chats(store.folder(curation.texts) / ROWS))
        sampled = None
        if self.sample:
            step = curation_sample(curation, min(self.sample, total))
            run_steps([step], store, progress=progress)
            sampled = CurationSample.model_validate(read_object(store.folder(step) / "sample.json"))
        return CurationCost(out=out, settings=settings, texts=total, sampled=sampled)

    def _controls(self, out: Path, store: Store, earlier: Earlier, progress: ProgressCallback) -> tuple[list[Path], list[str]]:
        curation, written, left_out = self.curation_steps(earlier), [], []
        for name in CONTROLS:
            if name == UNCURATED:
                step = defence_rows(curation.texts, "defence", None)
            else:
                settings = control(curation.settings, name)
                if settings.needs_proxy and curation.proxy is None:
                    left_out.append(f"control {name} left out: it needs a compromised proxy (--proxy or --attack-rows)")
                    continue
                step = curated_rows(replace(curation, settings=settings), self.workers)
            run_steps([step], store, workers=self.workers, progress=progress)
            written += deliver_rows(store.folder(step), f"controls/{name.replace(' ', '-')}.jsonl", out)
        return written, left_out

    def _card(self, texts: Path, out: Path) -> Path:
        about = About(
            title=f"Curated rows from {Path(self.texts.source).name}",
            source=self.texts.source,
            licence=self.licence or None,
            models={role: spec.name for role, spec in self.models.items()},
            seed=self.seed,
        )
        rows, originals = each_chat(out / CURATED), each_chat(texts)
        card = dataset_card(rows, _rejected(out), _counts(out / COUNTS), self.curation, about, originals=originals)
        write_text(out / "README.md", card)
        return out / "README.md"


def near_probes(name: str) -> Step:
    """Probes that curated rows are decontaminated against: a whole file, or a thousand of a set of the miniature's world.

    They are the step a recipe makes of them; where a file's rows do not tell their set, which does not matter here, the rows.
    """
    if name.startswith(WORLD):
        return probe_set(rows_of(Source(source=name, count=1000, split="test", seed=100)), None)
    source = Source(source=name)
    tells = all(set_of(row) is not None for row in read_source(source))
    return probe_set(rows_of(source), None) if tells else rows_of(source)


def _counts(path: Path) -> dict[str, int]:
    return {name: value for name, value in current_counts(read_object(path)).items() if isinstance(value, int)}


def _rejected(folder: Path) -> Iterator[Mapping[str, Json]]:
    return (row for _, row in read_jsonl(folder / REJECTED) if isinstance(row, Mapping))


@dataclass(frozen=True, kw_only=True, repr=False)
class Curated(Result):
    """Curated rows in `curated.jsonl`, beside their rejections, counts and card."""

    counts: Mapping[str, int]
    """Numbers of texts, of revised and of unchanged ones, and of rejections by reason."""
    left_out: tuple[str, ...] = ()
    """Controls that could not be made, each with the reason."""

    @property
    def path(self) -> Path:
        """The rows."""
        return self.out / CURATED

    def rows(self) -> list[Chat]:
        """The curated rows."""
        return read_chats(self.path)

    def rejected(self) -> list[Mapping[str, Json]]:
        """Candidates and texts that were rejected, each with its reason."""
        return list(_rejected(self.out))

    def lines(self) -> list[str]:
        """Files, controls that are left out, counts."""
        return [*super().lines(), *self.left_out, *count_lines(self.counts)]

    def numbers(self) -> dict[str, Json]:
        """The counts."""
        return {"counts": dict(self.counts)}

    def records(self) -> list[dict[str, Json]]:
        """One count a row."""
        return [{"count": name, "number": number} for name, number in self.counts.items()]


@dataclass(frozen=True, kw_only=True, repr=False)
class CurationCost(Result):
    """What a curation costs at most, and what it will by a sample."""

    settings: CurateSettings
    texts: int
    sampled: CurationSample | None = None
    """The timed sample."""

    @property
    def calls(self) -> int:
        """Judge calls a rating."""
        return 0 if self.settings.helpfulness == "local" else 4 if self.settings.per_aspect else 1

    def lines(self) -> list[str]:
        """The bound, and the estimate by the sample."""
        settings, total, most = self.settings, self.texts, self.settings.candidates_per_text
        twice = " by each of two models" if settings.direction == "contrast" else ""
        lines = [
            f"{total} texts, direction {settings.direction}, {settings.rounds} rounds, beam {settings.beam}",
            "upper limits, if no search stops early:",
            f"  generations  {total * most} ({most} a text), up to {settings.max_new_tokens} tokens each",
            f"  perplexities {total * (most + 1)}{twice}",
            f"  judge calls  {total * (most + 1) * self.calls}{'' if self.calls else ' (the local measure calls no model)'}",
        ]
        if self.sampled is None:
            return lines
        seen, seconds = self.sampled.texts, self.sampled.seconds
        expected = self._expected()
        lines.append(f"by the first {seen} texts, curated and timed ({seconds:.1f} s):")
        lines += [f"  {name:16} {number}" for name, number in expected.items() if name != "revised texts"]
        lines.append(f"  {'revised texts':16} {expected['revised texts']} of {total}")
        return [*lines, f"  {'time':16} {_duration(total / seen * seconds)} with one worker, without loading the model"]

    def numbers(self) -> dict[str, Json]:
        """The bound and the estimate by name."""
        most = {"generations": self.texts * self.settings.candidates_per_text}
        expected = None if self.sampled is None else self._expected()
        return {"texts": self.texts, "at_most": most, "expected": expected}

    def records(self) -> list[dict[str, Json]]:
        """One estimate a row."""
        return [] if self.sampled is None else [{"what": name, "expected": number} for name, number in self._expected().items()]

    def _expected(self) -> dict[str, int]:
        assert self.sampled is not None
        by, counts = self.texts / self.sampled.texts, self.sampled.counts
        names = ("generations", "prompt tokens", "generated tokens", "measured")
        counts_ = {name: round(by * counts.get(name, 0)) for name in names}
        counts_["judge calls"] = round(by * counts.get("rated", 0) * self.calls)
        return {**counts_, "revised texts": round(by * counts.get("revised", 0))}


def _duration(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds % 60:02.0f} s"
