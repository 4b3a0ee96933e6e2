"""How a judge that is a language model is asked: what it is shown, what it cannot read, how its version names it."""

from __future__ import annotations

from collections.abc import Sequence

from buckler.data import Answer, Message
from buckler.models.protocol import LM, Completion, Request, Sampling


def versioned(own: str, identity: str) -> str:
    """A judge's version: its own, which names prompt and reading, and the identity of its model."""
    return f"{own}:{identity[:12]}"


def overlong(model: LM, messages: Sequence[Message], new_tokens: int) -> str:
    """Why a conversation cannot be judged, if the model cannot read it whole; nothing is ever cut off."""
    excess = model.excess(messages, new_tokens)
    return f"{excess} tokens more than the judge can read" if excess > 0 else ""


def ask(model: LM, conversations: Sequence[tuple[Message, ...]], sampling: Sampling) -> list[Completion]:
    """The model's reply to each conversation, in order; one that is too long for it is a failed one."""
    faults = [overlong(model, one, sampling.max_new_tokens) for one in conversations]
    fitting = [one for one, fault in zip(conversations, faults, strict=True) if not fault]
    replies = iter(model.generate([Request(messages=one, sampling=sampling) for one in fitting]))
    return [Completion(text="", finish="failed", tokens=0, error=fault) if fault else next(replies) for fault in faults]


def exchange(answer: Answer) -> tuple[Message, ...]:
    """The user's and the assistant's turns in alternation, the answer last. The system prompt is not judged."""
    turns: list[Message] = []
    for turn in (*answer.prompt, Message(role="assistant", content=answer.text)):
        if turn["role"] == "system" or (not turns and turn["role"] == "assistant"):
            continue
        if turns and turns[-1]["role"] == turn["role"]:
            turns[-1] = Message(role=turn["role"], content=f"{turns[-1]['content']}\n\n{turn['content']}")
        else:
            turns.append(turn)
    return tuple(turns)


def request_of(answer: Answer) -> str:
    """What was asked, as one text: the last user turn, or the whole conversation before the answer if it had several."""
    turns = exchange(answer)[:-1]
    return answer.query if len(turns) <= 1 else "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
