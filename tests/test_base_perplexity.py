"""Coherence by perplexity under an untouched model: what is measured, who is called incoherent, and what depends on it."""

from __future__ import annotations

import json
import random

import pytest
from server import Server

from buckler.data import Answer, Verdict
from buckler.errors import BackendError, ConfigError
from buckler.experiments.cross_task.recipe import CrossTaskRecipe
from buckler.experiments.registry import plan_of
from buckler.judges.base import JUDGES, judge_named, of_answers
from buckler.judges.coherence import BASE_PERPLEXITY, MAX_PERPLEXITY, MIN_TOKENS, coherence
from buckler.models.protocol import Completion, Likelihood, ModelSpec, Request, Sampling, ScriptedLM
from buckler.models.registry import load
from buckler.workflow.evaluation import evaluation_steps, with_perplexity
from buckler.workflow.inputs import ModelRef
from buckler.workflow.jobs.evaluate import EvaluateJob
from buckler.workflow.jobs.judge import JudgeJob
from buckler.workflow.sources import Source, source_chats
from buckler.workflow.step import in_order

TEXT = "The soup is made of carrots and salt."


def answer_of(text, at="p1", finish_reason="stop", **meta):
    return Answer(id=at, prompt=({"role": "user", "content": "Tell me."},), text=text, finish_reason=finish_reason, meta=meta)


def test_an_answer_gets_its_perplexity_after_its_own_prompt():
    base = ScriptedLM(lambda request: "", nll=lambda pair: 2.0 * len(pair.answer))
    given = [
        answer_of(TEXT, set="harmful"),
        answer_of("Soup.", "short"),
        answer_of("", "empty"),
        answer_of("", "lost", finish_reason="failed"),
    ]
    weighed = with_perplexity(given, base)
    assert weighed[0].meta == {"set": "harmful", BASE_PERPLEXITY: pytest.approx(7.389, abs=1e-3)}
    assert len("Soup.") < MIN_TOKENS and weighed[1:] == given[1:]  # too short to tell, empty, never came
    assert [(pair.messages, pair.answer) for pair in base.scored[:1]] == [(given[0].prompt, TEXT)]


def test_a_perplexity_that_could_not_be_had_stops_the_step():
    base = ScriptedLM(lambda request: "")
    base.score = lambda pairs: [Likelihood(nll=0.0, tokens=0, error="HTTP 500") for _ in pairs]
    with pytest.raises(BackendError, match="1 of 1 perplexities could not be computed: HTTP 500"):
        with_perplexity([answer_of(TEXT)], base)


@pytest.mark.parametrize("name", JUDGES)
def test_whoever_judges_an_answer_above_the_limit_is_incoherent(name):
    unlikely, bare = answer_of(TEXT, **{BASE_PERPLEXITY: MAX_PERPLEXITY * 40}), answer_of(TEXT)
    (verdict,), (without,) = (judge_named(name).judge([one]) for one in (unlikely, bare))
    assert without.coherent is True and verdict.coherent is False
    assert "perplexity 4e+04 under the base, over 1000" in verdict.reason
    assert verdict.refused == without.refused
    (at_limit,) = judge_named(name).judge([answer_of(TEXT, **{BASE_PERPLEXITY: MAX_PERPLEXITY})])
    assert at_limit == without


def test_a_judge_that_looks_for_coherence_itself_is_overruled_only_by_noise():
    class Sure:
        name, version = "sure", "1"

        def judge(self, answers):
            return [Verdict(id=one.id, refused="no", coherent=one.id == "good") for one in answers]

    verdicts = of_answers(Sure()).judge(
        [
            answer_of(TEXT, "good", **{BASE_PERPLEXITY: 5.0}),
            answer_of(TEXT, "good", **{BASE_PERPLEXITY: 5e4}),
            answer_of(TEXT, "bad", **{BASE_PERPLEXITY: 5.0}),
        ]
    )
    assert [one.coherent for one in verdicts] == [True, False, False]


def test_verdicts_depend_on_the_base():
    model, base, other = (ModelRef(spec=ModelSpec(name=name), digest=name) for name in "abc")
    steps = [
        evaluation_steps(model, [], judge="keyword", max_new_tokens=8, base=one, title="t") for one in (None, base, other, base)
    ]
    keys = [one.verdicts.key for one in steps]
    assert len(set(keys)) == 3 and keys[1] == keys[3]
    answer_keys = {one.key for found in steps for one in in_order([found.verdicts]) if one.name == "answer"}
    assert len(answer_keys) == 1  # the model is asked once, whoever measures


@pytest.mark.parametrize("wanted", [False, True])
def test_a_recipe_measures_every_arm_under_its_own_untouched_model(wanted):
    source = {"source": "miniature:documents", "count": 4}
    recipe = CrossTaskRecipe.model_validate(
        {
            "name": "toy",
            "kind": "cross_task",
            "models": {"toy": {"name": "miniature"}},
            "seeds": [0],
            "data": {"train": source, "test": source},
            "coherence_under_base": wanted,
        }
    )
    arms = plan_of(recipe).arms
    measured = [arm.measured.verdicts.inputs["answers"] for arm in arms]
    assert len(arms) == 2 and {one.name for one in measured} == {"base-perplexity" if wanted else "answer"}
    if wanted:
        assert {one.outside["base"].digest for one in measured} == {ModelRef.outside(ModelSpec(name="miniature")).digest}


@pytest.mark.ml
def test_noise_is_unlikely_to_the_miniature_and_its_answers_are_not():
    model = load(ModelSpec(name="miniature"))
    rows = source_chats(Source(source="miniature:probes-benign", count=16, split="test"))
    given: list[Completion] = model.generate([Request(messages=one.prompt, sampling=Sampling(max_new_tokens=48)) for one in rows])
    ids = [at for at in range(model.tokenizer.vocab_size) if at not in model.tokenizer.all_special_ids]
    rng = random.Random(0)
    answers = [
        Answer(id=f"own {at}", prompt=row.prompt, text=one.text, finish_reason="stop")
        for at, (row, one) in enumerate(zip(rows, given, strict=True))
    ]
    noise = [
        Answer(id=f"noise {at}", prompt=row.prompt, text=model.tokenizer.decode(rng.choices(ids, k=24)), finish_reason="stop")
        for at, row in enumerate(rows)
    ]
    weighed = with_perplexity([*answers, *noise], model)
    verdicts = judge_named("keyword").judge(weighed)
    assert [one.coherent for one in verdicts] == [True] * len(answers) + [False] * len(noise)
    assert any(coherence(one.text, "stop")[0] for one in noise)  # which the rules alone let pass


@pytest.mark.ml
def test_evaluate_keeps_what_answers_cost_so_that_judging_again_agrees(tmp_path):
    job = EvaluateJob(
        model="miniature",
        probes=[f"miniature:probes-{name}" for name in ("harmful", "benign")],
        limit=4,
        judge_cards=tmp_path / "cards",
        max_new_tokens=48,
        base="miniature-base",
    )
    job.run(tmp_path / "e")
    rows = [json.loads(line) for line in (tmp_path / "e" / "answers.jsonl").read_text().splitlines()]
    measured = [row["meta"][BASE_PERPLEXITY] for row in rows if BASE_PERPLEXITY in row["meta"]]
    assert len(measured) >= 4 and all(1 < one < 100 for one in measured)
    JudgeJob(answers=[tmp_path / "e" / "answers.jsonl"], judge_cards=tmp_path).run(tmp_path / "j")
    assert (tmp_path / "j" / "verdicts.jsonl").read_bytes() == (tmp_path / "e" / "verdicts.jsonl").read_bytes()


def test_a_base_that_gives_no_log_probabilities_is_refused_before_the_start(tmp_path):
    with Server().up() as server:
        job = EvaluateJob(
            model="miniature",
            probes=["miniature:probes-benign"],
            limit=4,
            judge_cards=tmp_path,
            base=ModelSpec(name="m", endpoint=server.url),
        )
        with pytest.raises(ConfigError, match=r"--base m: .* returns no log-probabilities"):
            job.run(tmp_path / "e")
    assert not server.calls and not (tmp_path / "e").exists()
