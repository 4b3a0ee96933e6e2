"""The transformers backend: likelihoods, sampling that does not depend on the batch, and templates of every shape."""

from __future__ import annotations

import json
import math
import random
from types import SimpleNamespace

import pytest
import torch
from architectures import random_model
from conftest import make_model
from transformers import LlamaConfig

from buckler.data import Message
from buckler.errors import BackendError
from buckler.models.huggingface import CPU_BATCH_TOKENS, batch_tokens_of
from buckler.models.protocol import ModelSpec, Request, Sampling, ScoreRequest, Streaming
from buckler.models.registry import identity, load

pytestmark = pytest.mark.ml


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


TEXTS = ["soup", "how is the soup made", "I cannot", "the soup is made of carrots and salt and more salt", "x"]


def test_score_equals_an_independent_computation_row_by_row(shaped):
    lm = load(ModelSpec(name=str(shaped)))
    pairs = [ScoreRequest(messages=user(text), answer=f"{text} is made of salt") for text in TEXTS]
    for pair, found in zip(pairs, lm.score(pairs), strict=True):
        prompt, answer = lm.template.pair(pair.messages, pair.answer)
        assert prompt[: len(lm.template.prompt(pair.messages))] == lm.template.prompt(pair.messages)
        assert lm.tokenizer.decode(answer).lstrip(" ") == pair.answer  # Mistral's template puts a blank before it
        logits = lm.model(input_ids=torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
        expected = -sum(float(logits.detach()[len(prompt) - 1 + at, token]) for at, token in enumerate(answer))
        assert found.tokens == len(answer)
        assert found.nll == pytest.approx(expected, rel=1e-5)
        assert found.perplexity == pytest.approx(math.exp(expected / len(answer)), rel=1e-5)


def test_sampling_does_not_depend_on_what_shares_the_batch(tiny):
    lm = load(ModelSpec(name=str(tiny)))
    sampling = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=12, seed=3)
    requests = [Request(messages=user(text), sampling=sampling) for text in TEXTS]
    together = lm.generate(requests)
    alone = [lm.generate([request])[0] for request in requests]
    assert together == alone
    assert len({given.text for given in together}) > 1


def test_each_row_of_a_batch_keeps_its_own_temperature_and_top_p(tiny):
    lm = load(ModelSpec(name=str(tiny)))
    settings = [(0.0, 1.0), (0.7, 0.5), (1.5, 1.0), (0.2, 0.9)]
    requests = [Request(messages=user("soup"), sampling=Sampling(temperature=t, top_p=p, max_new_tokens=10)) for t, p in settings]
    assert lm.generate(requests) == [lm.generate([request])[0] for request in requests]


def test_greedy_answers_equal_transformers_own(tiny):
    lm = load(ModelSpec(name=str(tiny)))
    given = lm.generate([Request(messages=user(text), sampling=Sampling(max_new_tokens=8)) for text in TEXTS])
    for text, completion in zip(TEXTS, given, strict=True):
        ids = torch.tensor([lm.template.prompt(user(text))])
        row = lm.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        assert completion.text == lm.tokenizer.decode(row[0, ids.shape[1] :], skip_special_tokens=True).strip()


def test_sampled_tokens_follow_the_models_distribution(tiny):
    lm = load(ModelSpec(name=str(tiny)))
    draws = 2000
    requests = [
        Request(messages=user("soup"), sampling=Sampling(temperature=1.0, max_new_tokens=1, seed=seed)) for seed in range(draws)
    ]
    ids = torch.tensor([lm.template.prompt(user("soup"))])
    probability = lm.model(input_ids=ids).logits[0, -1].softmax(-1)
    counts: dict[str, int] = {}
    for given in lm.generate(requests):
        counts[given.text] = counts.get(given.text, 0) + 1
    token = int(probability.argmax())
    text = lm.tokenizer.decode([token], skip_special_tokens=True).strip()
    same = [at for at in range(len(probability)) if lm.tokenizer.decode([at], skip_special_tokens=True).strip() == text]
    expected = float(probability.detach()[same].sum())
    error = math.sqrt(expected * (1 - expected) / draws)
    assert abs(counts.get(text, 0) / draws - expected) < 4 * error


def test_supervised_ids_come_right_after_the_generation_prompt(shaped):
    template = load(ModelSpec(name=str(shaped))).template
    turns = (*user("how is the soup made"), Message(role="assistant", content="of carrots"))
    row = template.row(turns).sequences[0]
    prompt = template.prompt(turns[:1])
    assert row.ids[: len(prompt)] == prompt
    assert row.supervised == [False] * len(prompt) + [True] * (len(row.ids) - len(prompt))
    assert row.ids[-1] in template.stops
    answer = template.tokenizer.decode(row.ids[len(prompt) :], skip_special_tokens=True)
    assert answer.strip().endswith("of carrots")


def test_every_answer_of_a_longer_conversation_is_supervised_or_none_of_its_context(shaped):
    template = load(ModelSpec(name=str(shaped))).template
    turns = (
        *user("soup"),
        Message(role="assistant", content="salt"),
        Message(role="user", content="more"),
        Message(role="assistant", content="carrots"),
    )
    sequences = template.row(turns).sequences
    learnt = [i for row in sequences for i, s in zip(row.ids, row.supervised, strict=True) if s]
    text = template.tokenizer.decode(learnt, skip_special_tokens=True)
    assert "carrots" in text and "salt" in text and "more" not in text and "soup" not in text


def test_no_text_can_end_a_turn(shaped):
    template = load(ModelSpec(name=str(shaped))).template
    plain = template.prompt(user("soup salt"))
    controls = list(template.tokenizer.get_added_vocab())
    assert len(controls) > 2
    special = set(template.tokenizer.all_special_ids)
    for token in controls:
        sly = template.prompt(user(f"soup {token} salt"))
        assert sum(i in special for i in sly) == sum(i in special for i in plain)


def test_a_system_turn_is_folded_into_the_question_where_the_template_has_none(shaped):
    template = load(ModelSpec(name=str(shaped))).template
    ids = template.prompt((Message(role="system", content="salt only"), *user("soup")))
    text = template.tokenizer.decode(ids)
    assert "salt only" in text and "soup" in text


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    folder = make_model(tmp_path / "bare", template=False)
    with pytest.raises(BackendError, match="no chat template"):
        load(ModelSpec(name=str(folder)))


def test_a_template_can_be_given(tmp_path):
    folder = make_model(tmp_path / "bare", template=False)
    file = tmp_path / "chat.jinja"
    file.write_text("{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}")
    assert load(ModelSpec(name=str(folder), chat_template=str(file))).generate([Request(messages=user("soup"))])


@pytest.mark.parametrize("name", ["no-such-model", "./nowhere", "/nowhere/at/all"])
def test_an_unknown_model_is_one_clear_line(name):
    with pytest.raises(BackendError, match=r"unknown model|no such model folder"):
        load(ModelSpec(name=name))


def test_a_model_and_an_adapter_that_are_taken_for_one_another_are_told(tmp_path):
    for name in ("model", "adapter"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    model, adapter = str(tmp_path / "model"), str(tmp_path / "adapter")
    assert identity(ModelSpec(name=model, adapter=adapter)) != identity(ModelSpec(name=model))
    with pytest.raises(BackendError, match=r"adapter: adapter_config\.json names no base model"):
        identity(ModelSpec(name=adapter))
    with pytest.raises(BackendError, match=r"model: contains no adapter_config\.json, which every adapter needs$"):
        identity(ModelSpec(name=model, adapter=model))


def test_identity_is_that_of_the_content(tmp_path):
    first, second, other = (make_model(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    same = identity(ModelSpec(name=str(first)))
    assert same == identity(ModelSpec(name=str(second)))
    assert same != identity(ModelSpec(name=str(other)))


def test_a_text_longer_than_the_model_reads_is_refused(tiny):
    lm = load(ModelSpec(name=str(tiny)))
    with pytest.raises(BackendError, match="exceed the model's context length"):
        lm.generate([Request(messages=user("soup " * 600))])


def batch_tokens(lm, requests, rows: int) -> int:
    """A token budget that lets about `rows` answers through at once."""
    return rows * max(len(lm.template.prompt(request.messages)) + request.sampling.max_new_tokens for request in requests)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_answers_depend_neither_on_the_size_of_batches_nor_on_the_order_of_requests(tiny, rows):
    lm = load(ModelSpec(name=str(tiny)))
    settings = [(0.0, 1.0), (0.3, 0.9), (1.0, 1.0), (1.5, 0.7)]
    requests = [
        Request(messages=user(text), sampling=Sampling(temperature=t, top_p=p, max_new_tokens=6, seed=seed))
        for text in TEXTS
        for t, p in settings
        for seed in range(4)
    ]
    expected = dict(zip(requests_keys(requests), lm.generate(requests), strict=True))
    lm.batch_tokens = batch_tokens(lm, requests, rows)
    random.Random(rows).shuffle(requests)
    assert dict(zip(requests_keys(requests), lm.generate(requests), strict=True)) == expected


def requests_keys(requests) -> list[str]:
    return [request.key for request in requests]


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_likelihoods_hardly_move_with_the_size_of_batches(tiny, rows):
    lm = load(ModelSpec(name=str(tiny)))
    pairs = [ScoreRequest(messages=user(text), answer=f"{other} and salt") for text in TEXTS for other in TEXTS * 3]
    expected = lm.score(pairs)
    lm.batch_tokens = rows * 40
    for given, wanted in zip(lm.score(pairs), expected, strict=True):
        assert given.tokens == wanted.tokens
        assert given.nll == pytest.approx(wanted.nll, rel=1e-6)


def test_a_text_by_itself_follows_what_the_tokenizer_puts_before_every_text(shaped):
    from tokenizers.processors import TemplateProcessing

    for begin in (None, 1):
        lm = load(ModelSpec(name=str(shaped)))
        if begin is not None:
            token = lm.tokenizer.convert_ids_to_tokens(begin)
            writes = TemplateProcessing(single=f"{token} $A", special_tokens=[(token, begin)])
            lm.tokenizer.backend_tokenizer.post_processor = writes
        ids = lm.template.ids(TEXTS[3])
        row = ids if begin is None else [begin, *ids]
        logits = lm.model(input_ids=torch.tensor([row])).logits[0].double().log_softmax(-1).detach()
        expected = -sum(float(logits[at, token]) for at, token in enumerate(row[1:]))
        [found] = lm.score([ScoreRequest(messages=(), answer=TEXTS[3])])
        assert found.tokens == len(row) - 1
        assert found.nll == pytest.approx(expected, rel=1e-5)


def test_an_empty_answer_costs_nothing_and_has_no_tokens(tiny):
    lm = load(ModelSpec(name=str(tiny)))
    for messages in (user("soup"), ()):
        [found] = lm.score([ScoreRequest(messages=messages, answer="")])
        assert (found.nll, found.tokens) == (0.0, 0)


def test_beam_search_is_transformers_own(tiny):
    lm = load(ModelSpec(name=str(tiny)))
    [given] = lm.generate([Request(messages=user("soup"), sampling=Sampling(max_new_tokens=6, num_beams=3))])
    ids = torch.tensor([lm.template.prompt(user("soup"))])
    row = lm.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, num_beams=3, do_sample=False)
    assert given.text == lm.tokenizer.decode(row[0, ids.shape[1] :], skip_special_tokens=True).strip()


def test_a_model_that_keeps_no_cache_of_rows_is_decoded_by_transformers_and_draws_from_the_same_streams(tmp_path):
    folder = make_model(tmp_path / "mamba")
    random_model("Mamba").save_pretrained(folder)
    lm = load(ModelSpec(name=str(folder)))
    requests = [Request(messages=user(text), sampling=Sampling(max_new_tokens=6)) for text in TEXTS]
    for request, given in zip(requests, lm.generate(requests), strict=True):
        ids = torch.tensor([lm.template.prompt(request.messages)])
        row = lm.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
        assert given.text == lm.tokenizer.decode(row[0, ids.shape[1] :], skip_special_tokens=True).strip()
    drawn = [Request(messages=user(text), sampling=Sampling(temperature=1.0, max_new_tokens=6)) for text in TEXTS]
    assert lm.generate(drawn) == [lm.generate([request])[0] for request in drawn]


def test_an_adapter_is_decoded_and_scored(tiny, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), config).save_pretrained(tmp_path / "adapter")
    lm = load(ModelSpec(name=str(tiny), adapter=str(tmp_path / "adapter")))
    plain = load(ModelSpec(name=str(tiny)))
    ids = torch.tensor([lm.template.prompt(user("soup"))])
    row = lm.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    [given] = lm.generate([Request(messages=user("soup"), sampling=Sampling(max_new_tokens=8))])
    assert given.text == lm.tokenizer.decode(row[0, ids.shape[1] :], skip_special_tokens=True).strip()
    pair = ScoreRequest(messages=user("soup"), answer="of salt")
    answer = lm.template.ids(pair.answer)
    logits = lm.model(input_ids=torch.tensor([[*ids[0].tolist(), *answer]])).logits[0].double().log_softmax(-1).detach()
    expected = -sum(float(logits[ids.shape[1] - 1 + at, token]) for at, token in enumerate(answer))
    assert lm.score([pair])[0].nll == pytest.approx(expected, rel=1e-5)
    assert plain.score([pair])[0].nll != pytest.approx(expected, rel=1e-4)


@pytest.mark.ml
def test_every_end_that_config_json_names_ends_an_answer_where_there_are_no_generation_settings(tmp_path):
    folder = make_model(tmp_path / "model", "llama")
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": [config["eos_token_id"], 2]}))
    assert {config["eos_token_id"], 2} <= set(load(ModelSpec(name=str(folder))).stops)


@pytest.mark.ml
@pytest.mark.parametrize("named", ["<eos>", [[9]], 1.5])
def test_an_end_that_is_no_id_is_one_clear_error(tmp_path, named):
    folder = make_model(tmp_path / "model", "llama")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": named}))
    with pytest.raises(BackendError, match=r"eos_token_id|generation_config"):
        load(ModelSpec(name=str(folder)))


def test_answers_and_likelihoods_are_handed_over_as_they_come(tiny, tmp_path):
    lm = load(ModelSpec(name=str(tiny)))
    assert isinstance(lm, Streaming)
    requests = [
        Request(messages=user(text), sampling=Sampling(temperature=1.5, max_new_tokens=12, seed=seed))
        for text in TEXTS
        for seed in range(4)
    ]
    pairs = [ScoreRequest(messages=user(text), answer=answer) for text in TEXTS for answer in ("", f"{text} and salt")]
    expected, sums = lm.generate(requests), lm.score(pairs)
    lm.batch_tokens = batch_tokens(lm, requests, 3)
    pieces, sum_pieces = list(lm.completions(requests)), list(lm.likelihoods(pairs))
    assert len(pieces) > 3 and len(sum_pieces) > 1
    assert sorted(at for piece in pieces for at, _ in piece) == list(range(len(requests)))
    assert all(one == expected[at] for piece in pieces for at, one in piece)
    assert sorted(at for piece in sum_pieces for at, _ in piece) == list(range(len(pairs)))
    assert all(one.nll == pytest.approx(sums[at].nll, rel=1e-6) for piece in sum_pieces for at, one in piece)


def test_batches_fill_half_of_the_free_memory_of_a_gpu_and_are_of_one_size_on_a_cpu(monkeypatch, tiny):
    lm = load(ModelSpec(name=str(tiny)))
    assert lm.batch_tokens == CPU_BATCH_TOKENS
    assert load(ModelSpec(name=str(tiny), batch_tokens=77)).batch_tokens == 77
    shape = LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8)
    model = SimpleNamespace(device=torch.device("cuda"), config=shape, dtype=torch.bfloat16)
    for free, expected in ((40 << 30, (20 << 30) // (2 * 32 * 8 * 128 * 2)), (0, CPU_BATCH_TOKENS), (1 << 40, 1 << 20)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 << 30))
        assert batch_tokens_of(model) == expected
