"""Curation, spelled."""

from __future__ import annotations

from dataclasses import dataclass

from buckler.curation.settings import CurateSettings
from buckler.data import Json
from buckler.judges.refusal.keyword import KeywordJudge
from buckler.plan.spell.common import Model, numbered, spelled, step_of
from buckler.workflow.store import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Curation:
    """What a curation is made with: settings, texts, and a model for each role (the model itself where none is named)."""

    settings: CurateSettings
    texts: Step
    model: Model
    reviser: Model | None = None
    judge: Model | None = None
    reference: Model | None = None
    proxy: Model | None = None
    probes: tuple[Step, ...] = ()
    """Rows that no candidate may come near."""
    seed: int = 0

    def step(self, function: str, title: str, **params: Json) -> Step:
        """A step with all of it; the proxy and the reference count only where the settings ask for them.

        No candidate may refuse: how refusals are read is part of it.
        """
        roles = {"model": self.model, "reviser": self.reviser, "judge": self.judge}
        roles["reference"] = self.reference if self.settings.measured_by == "reference" else None
        roles["proxy"] = self.proxy if self.settings.needs_proxy else None
        params = {"curation": spelled(self.settings), "seed": self.seed, "keyword": KeywordJudge.version, **params}
        inputs: dict[str, Step] = {"texts": self.texts, **numbered("probes", self.probes)}
        paths: dict[str, str] = {}
        for role, model in roles.items():
            if model is not None:
                more = model.use(role)
                params, inputs, paths = params | more[0], inputs | more[1], paths | more[2]
        return step_of(function, title, params=params, inputs=inputs, paths=paths)


def curate(curation: Curation, shards: int = 1) -> Step:
    """Curated rows; the number of shards, which workers may share, changes nothing in them."""
    title = f"curated rows ({curation.settings.direction}), seed {curation.seed}"
    if shards == 1:
        return curation.step("curation.curate", title)
    parts = [curation.step("curation.curate", f"{title}, shard {at + 1} of {shards}", shard=[at, shards]) for at in range(shards)]
    return step_of("curation.gather", title, inputs=numbered("part", parts))


def curation_sample(curation: Curation, texts: int) -> Step:
    """The first texts of a curation, timed."""
    return curation.step("curation.sample", f"the first {texts} texts, timed", texts=texts)


def compromised(rows: Step, model: Model, proxy: Model, least: float) -> Step:
    """The proof that an attacked copy finds the attack's rows cheaper than the model does."""
    (params, inputs, paths), (more, proxy_inputs, proxy_paths) = model.use(), proxy.use("proxy")
    return step_of(
        "curation.compromised",
        "the attack took",
        params={"least": least, **params, **more},
        inputs={"rows": rows, **inputs, **proxy_inputs},
        paths=paths | proxy_paths,
    )
