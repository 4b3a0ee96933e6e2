"""Replies of servers in their many shapes, and the difference between a filter, a fault and an answer."""

from __future__ import annotations

import pytest

from buckler.data.reply import filter_of_error, is_marker, read_finish, read_reply
from buckler.models.protocol import Completion
from buckler.models.reply import completion_of_reply, read_again


def of(message, reason="stop", **beside):
    return completion_of_reply({"choices": [{"finish_reason": reason, "message": message, **beside}]})


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Yes."},
        {"content": [{"type": "text", "text": "Yes."}]},
        {"content": [{"type": "text", "text": "Ye"}, {"type": "output_text", "text": "s."}]},
        {"content": [{"type": "text", "text": {"value": "Yes."}}]},
        {"content": {"type": "text", "text": "Yes."}},
        {"content": ["Ye", "s."]},
        {"content": [{"text": "Hm.", "thought": True}, {"text": "Yes."}]},
        {"content": [{"type": "redacted_thinking", "data": "aGk="}, {"type": "text", "text": "Yes."}]},
        {"content": "Yes.", "refusal": None, "tool_calls": None, "reasoning_content": "", "annotations": []},
        {"content": "Yes.", "reasoning_content": "Hm."},
        {"content": "Yes.", "reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"content": "Yes.", "thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "x"}]},
        {"content": "<think>Hm.</think>Yes.", "reasoning_content": "Hm."},
        {
            "content": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
                {"type": "text", "text": "Yes."},
            ]
        },
        "Yes.",
    ],
)
def test_the_text_is_found_in_every_shape_of_a_message(message):
    given = of(message)
    assert (given.text, given.finish_reason, given.withheld_by, given.no_text) == ("Yes.", "stop", "", "")
    assert given.thinking in ("", "Hm.") and not given.began_inside


@pytest.mark.parametrize("reason", ["stop", None, "eos", "eos_token", "end_turn", "stop_sequence", "STOP", "tool_calls", ""])
def test_an_answer_that_the_model_ended_has_stopped(reason):
    assert read_finish(reason) == ("stop", "", "")


@pytest.mark.parametrize(
    "reason", ["length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens", "model_context_window_exceeded"]
)
def test_a_limit_cuts_an_answer_off(reason):
    assert read_finish(reason) == ("length", "", "")


@pytest.mark.parametrize(
    "reason",
    [
        *("content_filter", "refusal", "SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION", "sensitive"),
        *("ERROR_TOXIC", "guardrail_intervened", "content_filtered"),
    ],
)
def test_a_filter_withholds_an_answer_under_its_own_name(reason):
    given = of({"content": None}, reason)
    assert (given.withheld_by, given.finish_reason, given.text) == (reason, "stop", "") and not given.error
    assert given.no_text == f"withheld by the provider ({reason})"


@pytest.mark.parametrize("reason", ["abort", "error", "network_error", "insufficient_system_resource", "MALFORMED_FUNCTION_CALL"])
def test_a_server_that_gave_up_has_not_answered(reason):
    given = of({"content": "So"}, reason)
    assert given.finish_reason == "failed" and reason in given.error


def test_a_refusal_in_a_field_of_its_own_is_the_providers_and_keeps_its_words():
    given = of({"content": None, "refusal": "I can't do that."})
    assert (given.text, given.withheld_by) == ("I can't do that.", "refusal")
    both = of({"content": "Sure.", "refusal": "I can't do that."})
    assert (both.text, both.withheld_by) == ("Sure.", ""), "what was let through is the answer"


def test_tool_calls_stand_in_their_own_field_in_one_form():
    wanted = ({"name": "find", "arguments": {"a": 1}},)
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
    parts = [{"type": "tool_use", "id": "1", "name": "find", "input": {"a": 1}}]
    old = {"content": None, "function_call": {"name": "find", "arguments": '{"a": 1}'}}
    for message in ({"content": None, "tool_calls": [call]}, {"content": parts}, old):
        given = of(message, "tool_calls")
        assert (given.text, given.tool_calls) == ("", wanted)
        assert given.no_text == "no text: the answer is 1 tool call (find)"


def test_thinking_that_the_provider_does_not_show_explains_an_answer_that_was_cut_off_before_its_text():
    usage = {"prompt_tokens": 7, "completion_tokens": 64, "completion_tokens_details": {"reasoning_tokens": 64}}
    given = completion_of_reply({"choices": [{"finish_reason": "length", "message": {"content": ""}}], "usage": usage})
    assert given.no_text == "no answer yet: cut off at the token limit within its thinking" and "64 tokens" in given.thinking
    assert (given.tokens, given.prompt_tokens) == (64, 7)


def test_a_filter_of_azure_is_told_by_its_results():
    hate = {"content_filter_results": {"hate": {"filtered": True, "severity": "high"}}}
    assert of({"content": ""}, "stop", **hate).withheld_by == "content_filter"
    assert of({"content": "Yes."}, "stop", content_filter_results={"hate": {"filtered": False}}).withheld_by == ""
    prompt = {"choices": [], "prompt_filter_results": [{"content_filter_results": {"violence": {"filtered": True}}}]}
    assert completion_of_reply(prompt).withheld_by == "content_filter"


@pytest.mark.parametrize(
    "block", [{"promptFeedback": {"blockReason": "SAFETY"}}, {"prompt_feedback": {"block_reason": "SAFETY"}}]
)
def test_a_prompt_that_google_blocked_is_withheld(block):
    assert completion_of_reply({"choices": [], **block}).withheld_by == "SAFETY"
    with pytest.raises(ValueError, match="no choice"):
        completion_of_reply({"choices": [], "promptFeedback": {"blockReason": None}})


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": []},
        {},
        [],
        "busy",
        {"error": {"message": "out of memory"}},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": [{"finish_reason": "stop", "message": {"content": 3}}]},
        {"choices": [{"finish_reason": "stop", "message": {"content": [{"type": "image_url", "image_url": "x"}]}}]},
        {"choices": [{"finish_reason": "stop", "message": {"content": [[1]]}}]},
    ],
)
def test_what_is_no_answer_is_refused_in_words(reply):
    with pytest.raises(ValueError, match=r"choice|content|object"):
        completion_of_reply(reply)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "The response was filtered due to the prompt triggering Azure's content management policy."}},
        {"error": {"code": "content_filter", "message": "flagged"}},
        {"error": {"message": "Content Exists Risk", "code": "invalid_request_error"}},
        {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."},
        {"error": {"code": "content_policy_violation", "message": "Your request was rejected by our safety system."}},
        {"error": {"message": "openai/x requires moderation. Your input was flagged", "metadata": {"flagged_input": "x"}}},
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
    ],
)
def test_an_error_of_a_filter_is_told_from_a_fault(body):
    assert filter_of_error(body)


@pytest.mark.parametrize(
    "body",
    [
        {
            "error": {
                "message": "Unsupported parameter: 'max_tokens'; use 'max_completion_tokens'",
                "code": "unsupported_parameter",
            }
        },
        {"error": {"message": "maximum context length is 8192 tokens", "code": "context_length_exceeded"}},
        {"error": {"message": "Rate limit reached"}},
        {"error": {"message": "Invalid value for 'content': expected a string, got null."}},
        {"detail": "Not Found"},
        None,
    ],
)
def test_a_fault_is_no_filter(body):
    assert filter_of_error(body) == ""


@pytest.mark.parametrize(
    "text",
    [
        *(
            "[CONTENT_FILTERED]",
            "<content filtered>",
            "content_filter",
            "[Response blocked by safety filter]",
            "(message withheld)",
            "[Content removed by the provider's safety filter]",
            "[response redacted]",
        ),
        *("The generated text has been blocked by our content filters.", "This response was blocked.", "**Content filtered**"),
        "$MODERATION$ YOUR INPUT VIOLATES OUR CONTENT MODERATION GUIDELINES.",
    ],
)
def test_a_text_that_only_says_that_it_was_filtered_is_no_answer(text):
    given = read_reply(text)
    assert is_marker(text) and (given.text, given.withheld_by) == ("", text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "The water was filtered.",
            "Filtered coffee is mild.",
            "The road was blocked by a fallen tree.",
            "[REDACTED]",
            "Blocked",
        ),
        *("The message was blocked by the firewall, so call the baker.", "[blocked road] turn left at the mill\nand go on."),
        *("I filtered the content for you: 1, 2, 3.", "I'm sorry, but I can't help with that."),
    ],
)
def test_an_answer_that_speaks_of_filters_is_an_answer(text):
    assert read_reply(text).text == text and not is_marker(text)


def test_a_completion_of_a_plain_backend_is_read_once():
    raw = Completion(text="<think>Hm.</think>Yes.", finish_reason="stop", tokens=4, prompt_tokens=9)
    once = read_again(raw)
    assert (once.text, once.thinking, once.tokens, once.prompt_tokens) == ("Yes.", "Hm.", 4, 9)
    assert read_again(once) == once
    plain = Completion(text=" Yes. ", finish_reason="stop", tokens=1)
    assert read_again(plain) is plain


@pytest.mark.parametrize(
    "text",
    [
        "**Moderation** is the key: eat a little of everything.",
        "**Filtered water** is cheaper than bottled water.",
        "**Blocked drains** can be cleared with baking soda and vinegar.",
        "*Moderation is best.* Drink one glass of wine a day.",
        "(Filtered coffee is best brewed at 92 degrees.)",
        "**Withheld tax** is paid by the employer on your behalf.",
        "The message was blocked by the content delivery network.",
        "The text was moderated by Anna for our usage.",
        "**Filter coffee:** 60 g per litre.",
        "<filter>",
        '{"filter": "name eq \'x\'"}',
        "[filter(lambda x: x > 1, xs)]",
        "_filtered = [x for x in xs if x]",
        "$filter=name eq 'Milk'",
        "<blocked by user>",
        "The answer was withheld by the court for safety reasons.",
        "Your message is blocked.",
        "The text was removed.",
        "The request was filtered by the firewall.",
    ],
)
def test_an_answer_about_filters_is_an_answer(text):
    assert not is_marker(text) and (read_reply(text).text, read_reply(text).withheld_by) == (text, "")
