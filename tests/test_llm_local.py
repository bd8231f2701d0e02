"""A local model: a tiny random one, made here, through the same jobs as a real one."""

import json
import threading

import pytest

from common.errors import UserError
from datagen.comments import Comments
from datagen.jobs import run_job
from datagen.llm.journal import Journal
from datagen.llm.local import LocalProvider
from datagen.llm.records import RejectedError, Request
from datagen.llm.settings import ModelSettings
from tests.test_datagen_jobs import CONFIGS, comment_job, instagram_job, row, table

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SCHEMA = {
    "title": "reply",
    "type": "object",
    "properties": {"words": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3}},
    "required": ["words"],
    "additionalProperties": False,
}


def save_model(folder, architecture: str, template: str | None = TEMPLATE) -> None:
    """A random model of a thousand tokens, learnt from our own prompts, so that replies have words in them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    texts = [file.read_text("utf-8") for file in sorted((CONFIGS / "prompts").iterdir())]
    tokenizer.train_from_iterator(texts, trainer)
    torch.manual_seed(0)
    ends = {"eos_token_id": 2, "bos_token_id": None, "pad_token_id": None}
    if architecture == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=1000, n_embd=32, n_layer=1, n_head=2, n_positions=4096, **ends))
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = Qwen2Config(vocab_size=1000, num_key_value_heads=1, max_position_embeddings=4096, **sizes, **ends)
        model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[2], chat_template=template, additional_special_tokens=SPECIAL[:2]
    ).save_pretrained(folder)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A model this small is slower on several threads, above all beside other work; each thread has its own number."""
    import torch

    serve, threads = LocalProvider._serve, torch.get_num_threads()
    LocalProvider._serve = lambda self: torch.set_num_threads(1) or serve(self)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    LocalProvider._serve = serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, "qwen2")
    return folder


@pytest.fixture(scope="module")
def provider(folder):
    return make(folder)


def make(folder, **fields) -> LocalProvider:
    return LocalProvider(ModelSettings(provider="local", model=str(folder), **fields))


def ask(text: str, **fields) -> Request:
    fields = {"max_tokens": 120, "temperature": 1.0, "top_p": 1.0, **fields}
    return Request("tiny", ({"role": "user", "content": text},), **fields)


LENGTHS = ["hi", "a much longer question " * 9, "쉬는 날 " * 5]


def test_left_padding_is_sliced_where_replies_begin(provider):
    """Defect 31: sliced at each prompt's own length, the tail of a short prompt's reply was the prompt."""
    requests = [ask(text, schema=schema) for text in LENGTHS for schema in (SCHEMA, None)]
    together = provider.answer(requests)
    assert together == [provider.answer([request])[0] for request in requests]  # whoever shares the batch
    assert provider.tokenizer.padding_side == "left" and all("assistant\n" not in reply.text for reply in together)
    prompt = provider._prompt(requests[0])
    assert together[0].prompt_tokens == len(provider.tokenizer(prompt)["input_ids"])
    for reply in together[::2]:
        words = json.loads(reply.text)["words"]
        assert reply.finish == "stop" and len(words) <= 3 and all(len(word) <= 12 for word in words)


def test_draws_differ_by_seed_and_by_nothing_else(provider):
    texts = lambda **fields: provider.answer([ask("hello", schema=SCHEMA, **fields)])[0].text
    assert texts() == texts() != texts(seed=1)
    assert texts(temperature=0.0) == texts(temperature=0.0, seed=1)  # no draw at all
    assert texts(top_p=1e-6) == texts(top_p=1e-6, seed=1)  # only the likeliest token is left


def test_replies_end_at_their_own_limit(provider):
    short, long = provider.answer([ask("hello", max_tokens=5), ask("hello there", max_tokens=40)])
    assert short.finish == "length" and short.completion_tokens == 5 and 5 < long.completion_tokens <= 40


def test_waiting_requests_are_generated_together(folder):
    provider = make(folder, batch=4)
    sizes, answer = [], provider.answer
    provider.answer = lambda requests: sizes.append(len(requests)) or answer(requests)
    threads = [threading.Thread(target=provider.complete, args=(ask(f"n {n}", max_tokens=9),)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(sizes) == 8 and max(sizes) == 4 and len(sizes) <= 4


def test_out_of_memory_makes_batches_smaller(folder):
    provider = make(folder, batch=8)
    generate, sizes = provider._generate, []

    def tight(requests, prompts):
        sizes.append(len(requests))
        if len(requests) > 2 or "huge" in prompts[0]:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return generate(requests, prompts)

    provider._generate = tight
    replies = provider.answer([ask(f"n {n}", max_tokens=3) for n in range(6)])
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1] and all(reply.completion_tokens <= 3 for reply in replies)
    assert "not enough memory" in str(provider.answer([ask("huge")])[0])


def test_requests_that_cannot_be_asked_fail_alone(provider):
    photo = {"role": "user", "content": [{"type": "image", "path": "a.jpg", "sha256": "0"}]}
    replies = provider.answer([Request("tiny", (photo,)), ask("long " * 4000), ask("fine")])
    assert "reads no photos" in str(replies[0]) and "do not fit into 4096" in str(replies[1])
    assert replies[2].completion_tokens
    with pytest.raises(RejectedError, match="no grammar for the schema"):
        provider.complete(ask("x", schema={"type": "no such type"}))


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        ("none", {}, "cannot load the model .*none"),
        ("mute", {}, "has no chat template"),
        ("folder", {"precision": "4bit"}, "4bit weights need an NVIDIA GPU"),
    ],
)
def test_models_that_cannot_be_used(folder, tmp_path, monkeypatch, model, fields, message):
    monkeypatch.setattr("datagen.llm.local.best_device", lambda: "cpu")
    if model == "mute":
        save_model(tmp_path / "mute", "qwen2", None)
    with pytest.raises(UserError, match=message) as caught:
        make({"none": tmp_path / "none", "mute": tmp_path / "mute", "folder": folder}[model], **fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "precision", "attempts"), [("qwen2", "auto", 2), ("qwen2", "bf16", 1), ("gpt2", "fp32", 1)]
)
def test_every_reply_of_a_random_model_parses(tmp_path, architecture, precision, attempts):
    """Both jobs end to end: constrained decoding holds a model that knows nothing to the schema of the reply."""
    save_model(tmp_path / "model", architecture)
    fields = {"model": tmp_path / "model", "provider": "local", "precision": precision, "batch": 8}
    fields |= {"concurrency": 16, "temperature": 1.0, "max_tokens": 1500, "max_attempts": attempts}
    job = comment_job(tmp_path, sample=6, **{**fields, "out": tmp_path / "comments"})
    run_job(job)
    for reply in replies(tmp_path / "comments"):
        comments = Comments(**json.loads(reply)).comments
        assert len(comments) == 3 and all(8 <= len(comment) <= 80 for comment in comments)
    rows = [row(n, caption=f"cat {n}") for n in range(6)]
    run_job(instagram_job(tmp_path, table(*rows), **{**fields, "out": tmp_path / "posts"}))
    for reply in replies(tmp_path / "posts"):
        post = json.loads(reply)
        assert list(post) == ["caption", "hashtags"] and 20 <= len(post["caption"]) <= 400
        assert 5 <= len(post["hashtags"]) <= 7 and all(2 <= len(tag) <= 30 for tag in post["hashtags"])


def replies(out) -> list[str]:
    with Journal(out / "journal.sqlite") as journal:
        rows = journal.db.execute("SELECT reply, finish, error FROM attempts").fetchall()
    assert len(rows) >= 6 and {(finish, error) for _, finish, error in rows} == {("stop", "")}
    return [reply for reply, _, _ in rows]
