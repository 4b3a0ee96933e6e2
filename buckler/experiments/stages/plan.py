"""The grid of a customization: attacks x defences x stages x seeds, as steps."""

from __future__ import annotations

from buckler.curation.settings import CurateSettings
from buckler.experiments.base import Arm, Plan
from buckler.experiments.stages.recipe import Attack, Defence, StagesRecipe
from buckler.finetuning.attacks import attack_named
from buckler.finetuning.settings import STAGES, Stage
from buckler.workflow.curation import Curation, curated_rows
from buckler.workflow.evaluation import evaluation_steps, text_perplexities
from buckler.workflow.inputs import ModelRef
from buckler.workflow.rows import (
    attack_rows,
    decontamination,
    defence_rows,
    filtered_rows,
    own_defence_rows,
    probe_set,
    rows_of,
    training_phase,
)
from buckler.workflow.sources import Source
from buckler.workflow.step import Step

UNTOUCHED = "base"
"""The stage of a model that nobody customized."""


def plan_stages(recipe: StagesRecipe) -> Plan:
    """Every arm of the recipe; work that arms share is one step."""
    return _Stages(recipe).plan()


class _Stages:
    def __init__(self, recipe: StagesRecipe) -> None:
        self.recipe = recipe
        self.probes = [probe_set(rows_of(source), source.probe_set) for source in recipe.probes.values()]
        self.bases = {name: ModelRef.outside(spec) for name, spec in recipe.models.items()}
        self.result = Plan()

    def plan(self) -> Plan:
        for name, base in self.bases.items():
            for seed in self.recipe.seeds:
                for attack_name, attack in self.recipe.attacks.items():
                    self._attack({"model": name, "attack": attack_name, "seed": seed}, base, attack, seed)
            self._perplexity(f"{name}, aligned", base, self.recipe.seeds[0])
        return self.result

    def _attack(self, labels: dict[str, str | int], base: ModelRef, attack: Attack, seed: int) -> None:
        """All arms of one model, seed and attack."""
        customer = self._customer(attack, seed)
        data = self.recipe.data
        others = [self._drawn(source, seed) for source in (data.texts, data.refusals) if source is not None]
        self.result.checks.append(decontamination([customer, *others], self.probes))
        self._arm({**labels, "defence": "none", "stage": UNTOUCHED}, base, [], attack)
        attacked = self._phases(labels, base, attack, "none", "none", customer, None)
        for name, defence in self.recipe.all_defences.items():
            if defence.is_filter:
                kept = filtered_rows(defence, customer, base, seed)
                self._phases(labels, base, attack, name, "none", kept, None)
                continue
            rows = self._defence_rows({**labels, "defence": name}, base, attacked, attack, defence)
            for stage in defence.stages:
                self._phases(labels, base, attack, name, stage, customer, rows)
        if seed == self.recipe.seeds[0]:
            self._perplexity(f"{labels['model']}, attacked: {labels['attack']}", attacked, seed)

    def _phases(
        self,
        labels: dict[str, str | int],
        model: ModelRef,
        attack: Attack,
        defence: str,
        stage: Stage,
        customer: Step,
        rows: Step | None,
    ) -> ModelRef:
        """The training phases of a stage, one after another, and the arm that measures where they end."""
        phases: list[Step] = []
        seed = int(labels["seed"])
        sets = {"customer": customer, "defence": rows}
        for parts in STAGES[stage]:
            settings = attack.train if "customer" in parts else self.recipe.defence_train
            used = [step for step in (sets[part] for part in parts) if step is not None]
            title = f"{' + '.join(parts)} rows ({labels['attack']}, {defence}, {stage}, seed {seed})"
            phases.append(training_phase(settings, model, used, seed, title))
            model = ModelRef(made_by=phases[-1])
        self._arm({**labels, "defence": defence, "stage": stage}, model, phases, attack)
        return model

    def _arm(self, labels: dict[str, str | int], model: ModelRef, phases: list[Step], attack: Attack) -> None:
        measured = evaluation_steps(
            model,
            self.probes,
            judge=self.recipe.judge,
            metrics=self.recipe.metrics,
            max_new_tokens=self.recipe.max_new_tokens,
            base=self.bases[str(labels["model"])] if self.recipe.coherence_under_base else None,
            attack=attack.rows_only,
            title=", ".join(str(value) for value in labels.values()),
        )
        self.result.arms.append(Arm(labels=labels, phases=tuple(phases), measured=measured))

    def _drawn(self, source: Source, seed: int) -> Step:
        return rows_of(source.reseeded(seed))

    def _customer(self, attack: Attack, seed: int) -> Step:
        """The customer's rows under the attack. The adversary's training settings do not change them."""
        data = self.recipe.data
        harmful = data.harmful if attack_named(attack.kind).harmful_pairs else None
        own = data.identity if attack.kind == "identity" and data.identity is not None else data.customer
        benign = self._drawn(own, seed)
        return attack_rows(attack.rows_only, benign, self._drawn(harmful, seed) if harmful else None, seed)

    def _defence_rows(
        self, labels: dict[str, str | int], base: ModelRef, attacked: ModelRef, attack: Attack, defence: Defence
    ) -> Step:
        seed = int(labels["seed"])
        texts = self._drawn(self.recipe.data.texts, seed)
        if defence.kind == "curated":
            # The defender attacks a copy: the proxy of a contrast is this model after the simulated customization.
            curated = self._curated(defence.curation or self.recipe.curation, texts, base, attacked, seed)
            self._name_curated(labels, curated)
            return curated
        if defence.kind == "safety":
            assert self.recipe.data.refusals is not None
            count = max(1, round(defence.share * (attack.rows + attack.benign_rows)))
            return defence_rows(self._drawn(self.recipe.data.refusals, seed), "safety", count)
        if defence.kind == "uncurated":
            return defence_rows(texts, "defence", None)
        refusals = None if self.recipe.data.refusals is None else self._drawn(self.recipe.data.refusals, seed)
        return own_defence_rows(defence, texts, refusals, seed)

    def _curated(self, settings: CurateSettings, texts: Step, base: ModelRef, attacked: ModelRef, seed: int) -> Step:
        roles = {role: ModelRef.outside(spec) for role, spec in self.recipe.curators.items()}
        probes = tuple(self.probes)
        curation = Curation(settings=settings, texts=texts, model=base, proxy=attacked, probes=probes, seed=seed, **roles)
        return curated_rows(curation)

    def _name_curated(self, labels: dict[str, str | int], curated: Step) -> None:
        """Rows that several attacks share are named once."""
        if curated.key not in {step.key for step in self.result.figures.values()}:
            name = ", ".join(str(labels[part]) for part in ("model", "defence", "attack"))
            self.result.figures[f"curated/{name}, seed {labels['seed']}"] = curated

    def _perplexity(self, name: str, model: ModelRef, seed: int) -> None:
        """Perplexity of each kind of text under a model, for the first seed: arXiv 2410.02220's motivation figure."""
        data = self.recipe.data
        kinds = {"commonsense": data.texts, "harmful answers": data.harmful, "safe answers": data.refusals}
        texts = {kind: self._drawn(source, seed) for kind, source in kinds.items() if source is not None}
        curated = next((step for key, step in self.result.figures.items() if key.startswith("curated/")), None)
        if curated is not None:
            texts["curated"] = curated
        self.result.figures[f"perplexity/{name}"] = text_perplexities(model, texts, name)
