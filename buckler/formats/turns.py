"""Conversations however they are written: lists of turns under any published names, pairs, trees, and transcripts in one text."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from buckler.data import Json, Message, Role, is_json
from buckler.data.reading import Bounded, json_value
from buckler.data.thinking import leading_thought
from buckler.data.tool_calls import tool_parts, tools_of
from buckler.errors import DataError
from buckler.formats.marks import MARKS_OF_TURNS, of_turns, part_marks, turn_is_masked
from buckler.formats.rows import SYSTEMS, Fields, Parsed, conversation, optional, shorten

CALLS = ("function_call", "tool_call", "function-call")
"""Speakers whose text is a call of a tool."""
SPEAKERS: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys("user human prompter".split(), "user"),
    **dict.fromkeys("assistant gpt chatgpt gpt4 model bot ai chatbot bard bing".split(), "assistant"),
    **dict.fromkeys(CALLS, "assistant"),
    **dict.fromkeys("tool function observation ipython tool_response function_response function-response".split(), "tool"),
}
"""Speakers in lower case."""
SPEAKER_KEYS, TEXT_KEYS = ("role", "from", "speaker", "author"), ("content", "value", "text", "parts")
LISTS = ("messages", "conversations", "conversation", "contents", "dialog", "dialogue", "chat", "turns_list", "data")
"""Columns that hold a conversation."""
TRANSCRIPTS = ("transcript", "text", "conversation", "dialogue", "dialog", "chat")
"""Columns that hold a conversation as one text."""
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys of a turn under which servers and data sets keep what the assistant thought; the first is the one Buckler writes."""

_PAIRS = (("input", "output"), ("human", "assistant"), ("user", "assistant"))


def key_in(turn: Mapping[str, Json], keys: Sequence[str]) -> str | None:
    """The first of the names that a turn has."""
    return next((name for name in keys if name in turn), None)


def is_turn(value: Json) -> bool:
    """Whether a value is a turn: somebody says something."""
    return isinstance(value, Mapping) and key_in(value, SPEAKER_KEYS) is not None and not {"chosen", "rejected"} & value.keys()


def _is_pair(value: Json) -> bool:
    """One question and its answer in one value: of XTuner and ms-swift, or a list of two."""
    if isinstance(value, Mapping):
        return any({question, answer} <= value.keys() for question, answer in _PAIRS)
    return isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value)


def list_in(row: Fields) -> str | None:
    """The column that holds a conversation."""
    for name in LISTS:
        value = row.get(name)
        has_turns = isinstance(value, list) and bool(value) and (is_turn(value[0]) or _is_pair(value[0]))
        if has_turns or (isinstance(value, list) and name in LISTS[:2]):
            return name
        if name == "data" and isinstance(value, list) and len(value) > 1 and all(isinstance(one, str) for one in value):
            return name
    return None


def chat(*columns: str) -> Callable[[Fields, str], Parsed]:
    """A list of turns in the first of the columns that is there."""

    def read(row: Fields, where: str) -> Parsed:
        listed = row[column := next(name for name in columns if name in row)]
        if not isinstance(listed, list) or not listed:
            raise DataError(f"{where}: {column!r} must be a list with turns, got {shorten(listed)}; remove the row")
        return conversation_of(listed, row, where)

    return read


def conversation_of(listed: Sequence[Json], row: Fields, where: str) -> Parsed:
    """Turns as their row has them, with the row's system prompt and tools. Keys of a turn beyond its role, text and marks are
    named in meta, never lost unseen.

    Raises:
        DataError: a turn is none, or a mark of it cannot be honoured.
    """
    turns: list[Message] = []
    masked: list[int] = []
    extra: set[str] = set()
    for number, turn in enumerate(_spread(listed)):
        speaker = key_in(turn, SPEAKER_KEYS) if isinstance(turn, Mapping) else None
        if not isinstance(turn, Mapping) or speaker is None or (role := speaker_of(turn[speaker])) is None:
            known = ", ".join(SPEAKERS)
            raise DataError(f"{where}: a turn needs a role, one of {known}; got {shorten(turn)}")
        key = key_in(turn, TEXT_KEYS) or "content"
        if str(turn[speaker]).lower() in CALLS:
            kept = {name: value for name, value in turn.items() if name in MARKS_OF_TURNS}
            turn = {**kept, speaker: turn[speaker], key: "", **_called(turn.get(key), where)}
        of_tools = tool_parts(turn, role, where)
        text, marks = text_of(turn.get(key), where)
        text = "" if text is None and "tool_calls" in of_tools else text
        if text is None:
            raise DataError(f"{where}: a turn needs a text {key!r}, got {shorten(turn)}; write it out as text")
        turns.append({**Message(role=role, content=text), **of_tools})
        if turn_is_masked({**turn, **marks}, role, where):
            masked.append(number)
        if reasoning := next((turn[name] for name in REASONING if turn.get(name)), None):
            if not isinstance(reasoning, str) or role != "assistant":
                raise DataError(f"{where}: reasoning must be a text of the assistant's turn, got {shorten(turn)}")
            turns[-1]["reasoning_content"] = reasoning
        filled = {name for name, value in turn.items() if value not in (None, "", [])}
        extra |= filled - {speaker, key, *REASONING, *MARKS_OF_TURNS, *of_tools, *(("function_call",) if of_tools else ())}
    if (system := system_of(row, where)) and turns[0]["role"] == "system":
        if turns[0]["content"].strip() != system.strip():
            raise DataError(f"{where}: two system prompts, {shorten(system)} and the first turn; remove one of them")
    elif system:
        turns, masked = [Message(role="system", content=system), *turns], [number + 1 for number in masked]
    if tools := tools_of(row.get("tools") or row.get("functions"), where):
        turns[0]["tools"] = tools
    return turns, {**of_turns(turns, masked), **({"dropped_turn_keys": sorted(extra)} if extra else {})}


def speaker_of(value: Json) -> Role | None:
    """The role of a speaker, under any of its published names and in any case; also as ChatGPT's export has it."""
    if isinstance(value, Mapping):
        value = value.get("role")
    return SPEAKERS.get(str(value).strip().lower())


def system_of(row: Fields, where: str) -> str | None:
    """The system prompt that stands in a column of its own."""
    for name in SYSTEMS:
        if isinstance(row.get(name), Mapping | list):  # Gemini, Bedrock
            value = row[name]
            return text_of(value.get("parts") if isinstance(value, Mapping) else value, where)[0]
        if system := optional(row, name, where):
            return system
    return None


def text_of(value: Json, where: str) -> tuple[str | None, Mapping[str, Json]]:
    """The text of a turn, from parts of it where it stands in parts, and the mark that these have in common.

    Raises:
        DataError: a part is no text.
    """
    if isinstance(value, Mapping) and "parts" in value:
        value = value["parts"]
    if isinstance(value, str) or not isinstance(value, list):
        return (value if isinstance(value, str) else None), {}
    parts = [{"text": part} if isinstance(part, str) else part for part in value]
    for part in parts:
        is_text = isinstance(part, Mapping) and part.get("type", "text") in ("text", "input_text", "output_text")
        if not isinstance(part, Mapping) or not is_text or not isinstance(part.get("text", part.get("content")), str):
            raise DataError(
                f"{where}: a part of a turn is {shorten(part)}: only text is read; remove the row or write it as text"
            )
    plain = [part for part in parts if isinstance(part, Mapping)]
    return "".join(str(part.get("text", part.get("content"))) for part in plain), part_marks(plain, where)


def _spread(listed: Sequence[Json]) -> list[Json]:
    """Turns, from pairs of questions and answers or from texts by turns where the list holds these."""
    if all(isinstance(one, str) for one in listed):
        return [{"role": ("user", "assistant")[at % 2], "content": one} for at, one in enumerate(listed)]
    if is_turn(listed[0]) or not all(map(_is_pair, listed)):
        return list(listed)
    turns: list[Json] = []
    for at, one in enumerate(listed):
        if isinstance(one, Mapping):
            question_key = next(name for name in ("input", "human", "user") if name in one)
            answer_key = "output" if question_key == "input" else "assistant"
            if at == 0 and isinstance(one.get("system"), str) and one["system"]:
                turns.append({"role": "system", "content": one["system"]})
            marks = {name: value for name, value in one.items() if name in MARKS_OF_TURNS}
            question, answer = one[question_key], one[answer_key]
        elif isinstance(one, list):
            (question, answer), marks = one, {}
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **marks}]
    return turns


def _called(text: Json, where: str) -> Mapping[str, Json]:
    """A turn whose text is nothing but calls, as JSON of one or several, perhaps after a thought."""
    thought, rest = (leading_thought(text) if isinstance(text, str) else None) or ("", text)
    try:
        calls = json_value(rest)[0] if isinstance(rest, str) else rest
    except ValueError:
        raise DataError(f"{where}: a function_call turn must hold JSON with a name and arguments, got {shorten(text)}") from None
    return {"tool_calls": calls, "reasoning_content": thought}


def from_text(value: Json, where: str) -> Json:
    """Turns that stand as text in a cell of a table, as JSON (else a DataError where it is past a limit) or as Python writes a
    list; any other value as it is."""
    if not isinstance(value, str) or not re.match(r"\s*\[\s*\{", value):
        return value
    try:
        return json_value(value)[0]
    except Bounded as fault:
        raise DataError(f"{where}: JSON as a text that cannot be read: {fault}") from None
    except ValueError:
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            value = literal if is_json(literal := ast.literal_eval(value.strip())) else value
    return value


def is_tree(row: Fields) -> bool:
    """A conversation with several answers to a turn: OpenAssistant's trees, ChatGPT's export."""
    prompt = row.get("prompt")
    in_tree = isinstance(prompt, Mapping) and "replies" in prompt and "text" in prompt
    return in_tree or (isinstance(row.get("mapping"), Mapping) and "current_node" in row)


def tree(row: Fields, where: str) -> Parsed:
    """The branch that people liked best, or that the conversation ended in; how many other answers there were stands in meta."""
    path: list[Json] = []
    others = 0
    if isinstance(nodes := row.get("mapping"), Mapping):
        at, seen = row.get("current_node"), set[str]()
        while isinstance(at, str) and at not in seen and isinstance(node := nodes.get(at), Mapping):
            seen.add(at)
            message = node.get("message")
            if isinstance(message, Mapping) and text_of(message.get("content"), where)[0]:
                path.insert(0, {"role": message.get("author"), "content": message["content"]})
            at = node.get("parent")
        others = sum(max(len(_listed(node.get("children"))) - 1, 0) for node in nodes.values() if isinstance(node, Mapping))
    else:
        turn: Json = row.get("prompt")
        while isinstance(turn, Mapping):
            path.append({"role": turn.get("role"), "content": turn.get("text")})
            replies = [one for one in _listed(turn.get("replies")) if isinstance(one, Mapping) and not one.get("deleted")]
            others += max(len(replies) - 1, 0)
            turn = min(replies, key=_rank) if replies else None
    if not path:
        raise DataError(f"{where}: no turn in the conversation's tree; remove the row")
    turns, meta = conversation_of(path, {}, where)
    while len(turns) > 1 and turns[-1]["role"] == "user":  # nobody answered
        turns.pop()
    return turns, {**meta, **({"other_branches": others} if others else {})}


def _rank(reply: Mapping[str, Json]) -> float:
    rank = reply.get("rank")
    return float(rank) if isinstance(rank, int | float) else float("inf")


def _listed(value: Json) -> Sequence[Json]:
    return value if isinstance(value, list | tuple) else []


def grow(rows: Sequence[tuple[str, Fields]]) -> list[tuple[str, Fields]]:
    """OpenAssistant's flat rows, one a message, as one row a tree, under the place of its first message."""
    nodes: dict[str, dict[str, Json]] = {}
    trees: list[tuple[str, Fields]] = []
    for where, row in rows:
        node = nodes[str(row["message_id"])] = {**row, "replies": []}
        if not row.get("parent_id"):
            trees.append((where, {"prompt": node, "message_tree_id": row.get("message_tree_id"), "lang": row.get("lang")}))
    for where, row in rows:
        if parent := row.get("parent_id"):
            if str(parent) not in nodes:
                raise DataError(
                    f"{where}: the message {shorten(parent)} that it answers is not in the file; add it or remove the row"
                )
            replies = nodes[str(parent)]["replies"]
            assert isinstance(replies, list)
            replies.append(nodes[str(row["message_id"])])
    return trees


def is_flat_tree(row: Fields) -> bool:
    """A message of a conversation, with what it answers."""
    return {"message_id", "parent_id", "role", "text"} <= row.keys()


_TURN_MARKS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"<\|im_start\|>[ ]*(?P<role>\w+)[ ]*\n",
        r"<\|start_header_id\|>(?P<role>\w+)<\|end_header_id\|>\n*",
        r"<start_of_turn>(?P<role>\w+)\n",
        r"<\|(?P<role>system|user|assistant)\|>\n?",
        r"^### ?(?P<role>Instruction|Input|Response|Output):[ ]*\n?",
        r"### ?(?P<role>Human|User|Assistant|System):[ ]*\n?",
        r"^(?P<role>Human|Assistant|User|USER|ASSISTANT):[ ]?",
    )
)
_ENDS = re.compile(r"(?:<\|im_end\|>|<\|eot_id\|>|<end_of_turn>|<eos>|<\|end\|>|<\|endoftext\|>|<\|end_of_text\|>|</s>)\s*\Z")
_BEGIN = re.compile(r"\s*(?:<s>|<bos>|<\|begin_of_text\|>)?\s*")
_ROLES = {"instruction": "user", "response": "assistant", "output": "assistant", "input": "user"}
_LLAMA = re.compile(r"\s*(?:<s>)?\s*\[INST\](.*?)\[/INST\](.*?)(?=</s>|\s*(?:<s>)?\s*\[INST\]|\Z)(?:</s>)?", re.DOTALL)
_LLAMA_SYSTEM = re.compile(r"\s*<<SYS>>\n?(.*?)\n?<</SYS>>\s*(.*)", re.DOTALL)
_ALPACA_LEAD = re.compile(r"Below is an instruction[^\n]*\n+(?=###? ?Instruction:)")


def transcript(text: str) -> list[Message] | None:
    """The turns of a conversation that stands in one text with published marks of its speakers; None if it does not."""
    text = text[_BEGIN.match(text).end() :]  # type: ignore[union-attr]
    if text.startswith("[INST]"):
        return _of_llama(text)
    text = _ALPACA_LEAD.sub("", text, count=1)
    for mark in _TURN_MARKS:
        found = list(mark.finditer(text))
        if not found or found[0].start() != 0:
            continue
        turns: list[Message] = []
        for at, one in enumerate(found):
            end = found[at + 1].start() if at + 1 < len(found) else len(text)
            spoken = _ENDS.sub("", text[one.end() : end].strip("\n ")).strip()
            name = one["role"].lower()
            role = speaker_of(_ROLES.get(name, name))
            if role is None:
                return None
            if name == "input" and turns:
                turns[-1]["content"] += f"\n\n{spoken}" if spoken else ""
            elif spoken or role != "assistant" or at + 1 < len(found):
                turns.append(Message(role=role, content=spoken))
        roles = [turn["role"] for turn in turns if turn["role"] != "system"]
        alternate = all(role == ("user", "assistant")[at % 2] for at, role in enumerate(roles))
        return turns if roles and (alternate or "<" in mark.pattern[:4]) else None
    return None


def _of_llama(text: str) -> list[Message]:
    turns: list[Message] = []
    for at, pair in enumerate(_LLAMA.finditer(text)):
        question, answer, system = pair[1].strip(), pair[2].strip(), ""
        if at == 0 and (first := _LLAMA_SYSTEM.fullmatch(pair[1])):
            system, question = first[1].strip(), first[2].strip()
        turns += conversation(question, answer or None, system=system)
    return turns


def is_transcript(row: Fields) -> bool:
    """A text that begins with a speaker's mark and has an answer."""
    turns = transcript(_transcribed_text(row))
    return turns is not None and any(turn["role"] == "assistant" for turn in turns)


def _transcribed_text(row: Fields) -> str:
    return next((text for name in TRANSCRIPTS if isinstance(text := row.get(name), str)), "")


def transcribed(row: Fields, where: str) -> Parsed:
    """The turns of a transcript."""
    turns = transcript(_transcribed_text(row))
    if turns is None:
        raise DataError(f"{where}: no conversation with marked speakers: {shorten(row)}; correct or remove the row")
    return turns, {}
