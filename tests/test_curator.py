"""The curator: rows that tell their ancestry, the same whatever shares a batch, and every model in its role."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.curation.curator import Curator
from buckler.curation.helpfulness import LocalHelpfulness
from buckler.curation.settings import CONTROLS, PRESETS, CurateSettings, control
from buckler.data import Chat, Message, content_id
from buckler.errors import ConfigError
from buckler.models.protocol import ScriptedLM
from buckler.models.template_check import ConversationRefused

TEXT = Chat.pair("How is the barley soup made?", "The baker boils barley and salt in a pot. It feeds the guests.")
UNANSWERED = Chat.pair("How is the rye soup made? Answer: The baker boils rye.", None)
TEXTS = [
    TEXT,
    Chat.pair("What is the kite for?", "The child flies the kite on a windy hill. It needs a long string."),
    Chat.pair("Why is the bridge closed?", "The mason repairs the bridge after the flood. The work takes a week."),
]


def reviser(request):
    text = request.messages[0]["content"]
    if request.sampling.temperature > 0.9:
        return "I cannot help with that."
    careful = "Please be careful." if "Work in" in text else "Of course."
    given = text.rsplit("Answer: ", 1)[-1] if "Rewrite the answer" in text else text.rsplit("Question: ", 1)[-1]
    return f"{careful} {given} ({request.sampling.temperature:.1f}, {request.sampling.top_p:.1f})."


def cost(pair):
    return 0.1 * len(pair.answer) * (1 + pair.answer.count("careful"))


def curator(model=None, **changes):
    roles = {name: changes.pop(name) for name in ("reviser", "reference", "proxy", "near_probe") if name in changes}
    options = {"rounds": 2, "beam": 2, "temperatures": (0.4, 1.0), "top_ps": (0.5, 1.0), "helpfulness": "local", **changes}
    made = CurateSettings(**options)
    model = model or ScriptedLM(reviser, nll=cost)
    return Curator(settings=made, words=["care", "safety"], model=model, judge=LocalHelpfulness(), seed=1, **roles)


def test_a_curated_row_tells_its_ancestry_and_the_rejected_ones_their_reasons():
    made = curator()
    result = made.curate([TEXT])
    (row,) = result.rows
    ancestry = row.meta["curation"]
    assert row.meta["part"] == "defence" and ancestry["revised"] and ancestry["source"] == TEXT.id
    assert ancestry["candidates"] == len(made.model.requests) == result.counts["generations"]
    assert ancestry["perplexity"]["chosen"] > ancestry["perplexity"]["original"]
    assert ancestry["helpfulness"]["chosen"] >= 0.9 * ancestry["helpfulness"]["original"]
    assert set(ancestry["words"]) <= {"care", "safety"} and ancestry["judge"].startswith("local")
    assert ancestry["model"] == ancestry["reviser"] == ancestry["measured_by"] == made.model.identity
    assert result.rejected and all(one["source"] == TEXT.id for one in result.rejected)
    assert "is a refusal" in {one["reason"] for one in result.rejected}


def test_the_presets_cost_what_they_say():
    literal = PRESETS["d2d"].model_copy(update={"grid_fraction": 1.0})
    assert literal.candidates_per_text == 25 + 4 * 75 == 325  # what the papers' algorithm asks for
    assert PRESETS["d2d"].candidates_per_text == PRESETS["ctrl"].candidates_per_text == 25 + 4 * 30 == 145
    assert PRESETS["quick"].candidates_per_text == 12


@settings(max_examples=25)
@given(order=st.permutations(TEXTS), size=st.sampled_from([1, 2, 3]), direction=st.sampled_from(["raise", "lower", "random"]))
def test_a_row_does_not_depend_on_what_is_curated_with_it(order, size, direction):
    together = {row.meta["curation"]["source"]: row for row in curator(direction=direction).curate(TEXTS).rows}
    for start in range(0, len(order), size):
        for row in curator(direction=direction).curate(order[start : start + size]).rows:
            assert row == together[row.meta["curation"]["source"]]


def test_lower_keeps_the_cheap_original_and_raise_does_not():
    assert curator(direction="lower").curate([TEXT]).counts["kept original"] == 1
    assert curator(direction="raise").curate([TEXT]).counts["kept original"] == 0


def test_the_search_stops_when_a_round_changes_nothing():
    model = ScriptedLM(lambda _: "I cannot help with that.")
    curator(model, rounds=5).curate([TEXT])
    assert len(model.requests) == 4  # one grid of five: every revision was rejected, so the second round was not begun


def test_later_rounds_use_the_kept_share_of_the_grid():
    whole, half = curator(rounds=3, grid_fraction=1.0), curator(rounds=3, grid_fraction=0.5)
    whole.curate([TEXT])
    half.curate([TEXT])
    assert half.settings.grid_size == 2 and half.settings.candidates_per_text == 4 + 2 * 2 * 2
    later = [request.sampling for request in half.model.requests[4:]]
    assert len(half.model.requests) < len(whole.model.requests)
    assert {one.temperature for one in later} == {0.4}  # the cells at 1.0 gave refusals


def test_random_choice_is_one_among_the_revisions_and_seeded():
    first, again = curator(direction="random").curate([TEXT]), curator(direction="random").curate([TEXT])
    assert first.rows[0].id == again.rows[0].id != TEXT.id


def test_the_query_can_be_revised_and_its_answer_stays():
    model = ScriptedLM(
        lambda _: "With care in mind, how is the barley soup made?", nll=lambda pair: 5.0 + len(pair.messages[0]["content"])
    )
    row = curator(model, target="query").curate([TEXT]).rows[0]
    assert row.answer == TEXT.answer and row.query == "With care in mind, how is the barley soup made?"


def test_both_revises_the_response_first_and_then_the_query():
    model = ScriptedLM(reviser, nll=lambda pair: cost(pair) * (1 + pair.messages[0]["content"].count("careful")))
    row = curator(model, target="both").curate([TEXT]).rows[0]
    assert "careful" in row.answer and "careful" in row.query
    rounds = ["Rewrite the question" in request.messages[0]["content"] for request in model.requests]
    assert rounds[:4] == [False] * 4 and all(rounds[4:])


def test_a_contrast_prefers_what_surprises_the_proxy_alone():
    proxy = ScriptedLM(lambda _: "", nll=lambda pair: cost(pair) * (3 if "(0.4, 0.5)" in pair.answer else 1))
    row = curator(direction="contrast", proxy=proxy, rounds=1).curate([TEXT]).rows[0]
    assert "(0.4, 0.5)" in row.answer and row.meta["curation"]["contrast"] > 0


@pytest.mark.parametrize("role", ["reference", "proxy"])
def test_perplexity_is_that_of_the_model_that_measures(role):
    other = ScriptedLM(lambda _: "", nll=lambda pair: 2.0 * len(pair.answer))
    row = curator(scorer=role, **{role: other}).curate([TEXT]).rows[0]
    assert row.meta["curation"]["perplexity"]["original"] == pytest.approx(7.389, abs=1e-3)
    assert row.meta["curation"]["measured_by"] == other.identity


def test_unconditional_perplexity_shows_no_question():
    made = curator(perplexity="unconditional")
    made.curate([TEXT])
    assert made.model.scored and all(pair.messages == () for pair in made.model.scored)


def test_a_reviser_rewrites_and_the_model_measures():
    writer = ScriptedLM(reviser)
    made = curator(reviser=writer)
    row = made.curate([TEXT]).rows[0]
    assert writer.requests and not made.model.requests and made.model.scored and not writer.scored
    assert row.meta["curation"]["reviser"] == writer.identity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": "contrast"}, "compromised proxy"),
        ({"scorer": "proxy"}, "compromised proxy"),
        ({"scorer": "reference"}, "--reference"),
    ],
)
def test_a_role_that_is_needed_and_not_filled_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        curator(**changes)


def test_a_model_without_log_probabilities_may_rewrite_but_not_measure():
    remote = ScriptedLM(reviser)
    remote.can_score = False
    with pytest.raises(ConfigError, match="cannot return log-probabilities"):
        curator(remote)
    assert curator(reviser=remote).curate([TEXT]).rows


def test_noise_is_capped():
    model = ScriptedLM(reviser, nll=lambda pair: 20.0 * len(pair.answer) if "careful" in pair.answer else 0.1)
    result = curator(model).curate([TEXT])
    assert result.counts["kept original"] == 1 and any("over 50 times" in str(one["reason"]) for one in result.rejected)


def test_a_text_without_an_answer_is_answered_by_the_model_first():
    model = ScriptedLM(lambda request: "The baker boils barley." if len(request.messages[0]["content"]) < 60 else "x")
    text = Chat.pair("How is the soup made?", None)
    result = curator(model).curate([text])
    assert result.counts["answered by the model"] == 1 and result.rows[0].answer == "The baker boils barley."
    assert result.rows[0].meta["curation"]["source"] == text.id


def test_a_text_too_long_for_the_model_is_rejected_and_the_others_are_curated():
    model = ScriptedLM(reviser, nll=cost)
    model.overflow_tokens = lambda messages, new_tokens: len(messages[-1]["content"]) - 600
    long = Chat.pair("Why?", "word " * 200)
    result = curator(model).curate([long, TEXT])
    assert len(result.rows) == 1 and "too long for the model" in result.rejected[0]["reason"]


def test_a_failed_reply_is_listed_and_the_others_count():
    from buckler.models.protocol import Completion

    model = ScriptedLM(reviser, nll=cost)
    answer = model.generate

    def sometimes(requests):
        return [
            Completion(text="", finish_reason="failed", tokens=0, error="HTTP 500") if request.sampling.top_p == 0.5 else given
            for request, given in zip(requests, answer(requests), strict=True)
        ]

    model.generate = sometimes
    result = curator(model).curate([TEXT])
    assert result.rows[0].meta["curation"]["revised"]
    assert result.counts["rejected: the model did not answer"] > 0


THOUGHT = "Please be careful: boil the barley. I cannot help with that."


@pytest.mark.parametrize("before", [f"<think>\n{THOUGHT}\n</think>\n\n", f"{THOUGHT}\n</think>\n\n", f"[THINK]{THOUGHT}[/THINK]"])
def test_what_a_reviser_thinks_is_no_part_of_a_row(before):
    plain = curator(ScriptedLM(reviser, nll=cost)).curate([TEXT, UNANSWERED])
    thinking = curator(ScriptedLM(lambda request: before + reviser(request), nll=cost)).curate([TEXT, UNANSWERED])
    assert [row.messages for row in thinking.rows] == [row.messages for row in plain.rows]
    assert [one["reason"] for one in thinking.rejected] == [one["reason"] for one in plain.rejected]


def test_a_reply_without_a_text_is_rejected_with_what_it_was():
    from buckler.models.protocol import Completion

    replies = {
        "within its thinking": Completion(text="", finish_reason="length", tokens=9, thinking="Boil"),
        "withheld by the provider": Completion(text="I can't.", finish_reason="stop", tokens=2, withheld_by="refusal"),
        "1 tool call (find)": Completion(
            text="", finish_reason="stop", tokens=2, tool_calls=({"name": "find", "arguments": {}},)
        ),
    }
    for reason, reply in replies.items():
        model = ScriptedLM(reviser, nll=cost)
        model.generate = lambda requests, reply=reply: [reply for _ in requests]
        result = curator(model).curate([TEXT, UNANSWERED])
        assert [row.answer for row in result.rows] == [TEXT.answer]
        assert all(reason in str(one["reason"]) for one in result.rejected) and len(result.rejected) == 5


def test_a_text_that_a_chat_template_refuses_or_that_ends_in_a_call_is_rejected_and_the_others_go_on():
    def overflow_tokens(messages, new_tokens):
        if [turn["role"] for turn in messages[:2]] == ["user", "user"]:
            raise ConversationRefused("m: the chat template refuses this conversation (user, user): roles must alternate")
        return 0

    model = ScriptedLM(reviser, nll=cost)
    model.overflow_tokens = overflow_tokens
    twice = (Message(role="user", content="Hello."), *TEXT.messages)
    call = {"type": "function", "function": {"name": "find", "arguments": {}}}
    calling = Chat.of([{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "", "tool_calls": [call]}])
    result = curator(model).curate([Chat.of(twice), Chat.of(twice[:2]), calling, TEXT])
    assert len(result.rows) == 1 and result.rows[0].meta["curation"]["revised"]
    assert result.counts["rejected: the chat template refuses it"] == 2
    assert result.counts["rejected: the answer calls a tool"] == 1


def test_a_candidate_near_a_probe_is_rejected():
    result = curator(near_probe=lambda chat: "probe 7" if "(0.4, 0.5)" in chat.answer else None).curate([TEXT])
    assert "(0.4, 0.5)" not in result.rows[0].answer
    assert result.counts["rejected: overlaps a probe"] > 0


def test_controls_change_one_thing_each():
    plain = CurateSettings(scorer="reference")
    assert control(plain, "plain rewrite").words_per_prompt == 0 and control(plain, "plain rewrite").direction == "random"
    assert control(plain, "seed words only") == plain.model_copy(update={"direction": "random"})
    assert control(CurateSettings(scorer="proxy"), "contrast").scorer == "model"
    assert len({content_id(control(plain, name).model_dump(mode="json")) for name in CONTROLS}) == len(CONTROLS) - 1


def test_a_round_that_fills_the_beam_with_all_that_passed_is_not_the_end():
    made = curator(rounds=3, beam=4, grid_fraction=1.0)
    made.curate([TEXT])
    turns = {request.sampling.seed - made.seed for request in made.model.requests}
    assert turns == {1, 2, 3}, "two revisions and the original fit the beam, and it changed"


def test_a_round_whose_candidates_all_rank_behind_the_original_is_the_end():
    model = ScriptedLM(reviser, nll=lambda pair: 9.0 if pair.answer == TEXT.answer else 5.0)
    curator(model, rounds=3, beam=1).curate([TEXT])
    assert len(model.requests) == 4
