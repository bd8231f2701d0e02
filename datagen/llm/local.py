"""A model on this machine by `transformers`: requests that wait at the same time are generated together."""

import queue
import threading
from concurrent.futures import Future

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LogitsProcessorList

from common.devices import QUANTIZED, best_device, loading_options
from common.errors import UserError
from datagen.llm.draw import Draw, Grammars
from datagen.llm.records import RejectedError, Reply, Request
from datagen.llm.settings import ModelSettings

GATHER_S = 0.05  # how long a batch waits for the requests that are sent together with its first one


class LocalProvider:
    """One model; a thread of its own takes the waiting requests batch by batch."""

    def __init__(self, settings: ModelSettings) -> None:
        self.device = best_device()
        self.tokenizer, self.model = load(settings, self.device)
        self.batch, self.penalty = settings.batch, settings.repetition_penalty
        self.constrained = settings.structured == "json_schema"
        self.ends = _ends(self.tokenizer, self.model)
        self.longest = getattr(self.model.config, "max_position_embeddings", None)
        self.tokens = self.model.get_output_embeddings().weight.shape[0]
        self.model.generation_config = GenerationConfig(
            do_sample=False,  # `Draw` draws
            repetition_penalty=self.penalty,
            eos_token_id=self.ends,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        self.grammars = Grammars(self.tokenizer, self.tokens, self.ends) if self.constrained else None
        self.waiting: queue.Queue[tuple[Request, Future]] = queue.Queue()
        threading.Thread(target=self._serve, daemon=True).start()

    def complete(self, request: Request) -> Reply:
        answer: Future[Reply] = Future()
        self.waiting.put((request, answer))
        return answer.result()

    def _serve(self) -> None:
        while True:
            taken = self._gather()
            try:
                replies = self.answer([request for request, _ in taken])
            except Exception as error:  # the next batch may succeed
                replies = [RejectedError(f"{type(error).__name__}: {error}")] * len(taken)
            for (_, future), reply in zip(taken, replies, strict=True):
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)

    def _gather(self) -> list[tuple[Request, Future]]:
        """Requests that wait now, up to a batch, once there is one."""
        taken = [self.waiting.get()]
        try:
            while len(taken) < self.batch:
                taken.append(self.waiting.get(timeout=GATHER_S))
        except queue.Empty:
            pass
        return taken

    def answer(self, requests: list[Request]) -> list[Reply | RejectedError]:
        """A reply or an error for each request; batches that do not fit into memory are halved, and so are later ones.

        Each reply is drawn by its own request alone, so that it does not matter how they are batched.
        """
        prompts = [self._prompt(request) for request in requests]
        good = [n for n, prompt in enumerate(prompts) if isinstance(prompt, str)]
        answers: list = list(prompts)
        while good:
            part = good[: self.batch]
            replies = self._try([requests[n] for n in part], [prompts[n] for n in part])
            if replies is None and len(part) > 1:
                self.batch = len(part) // 2
                continue
            replies = replies or [RejectedError("there is not enough memory for this prompt alone")]
            for n, reply in zip(part, replies, strict=True):
                answers[n] = reply
            good = good[len(part) :]
        return answers

    def _try(self, requests: list[Request], prompts: list[str]) -> list[Reply | RejectedError] | None:
        """Replies, or None where memory does not reach."""
        try:
            return self._generate(requests, prompts)
        except RuntimeError as error:  # each device has its own words for it
            if not any(words in str(error) for words in ("out of memory", "allocate memory")):
                raise
        if self.device == "cuda":  # after the except clause, which still holds what was being computed
            torch.cuda.empty_cache()
        return None

    def _prompt(self, request: Request) -> str | RejectedError:
        """What the model reads, by its chat template."""
        if request.images:
            return RejectedError("a local model reads no photos")
        turns = [{"role": m["role"], "content": _text(m["content"])} for m in request.messages]
        try:
            prompt = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template may refuse roles in any way
            return RejectedError(f"the model's chat template refuses the messages: {error}")
        length = len(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])
        if self.longest and length + request.max_tokens > self.longest:
            return RejectedError(
                f"{length} tokens of prompt and {request.max_tokens} of reply do not fit into {self.longest}"
            )
        return prompt

    def _generate(self, requests: list[Request], prompts: list[str]) -> list[Reply | RejectedError]:
        try:
            matchers = [self.grammars.matcher(r.schema) if self.grammars and r.schema else None for r in requests]
        except RejectedError as error:
            return [error] * len(requests)
        read = self.tokenizer(prompts, padding=True, return_tensors="pt", add_special_tokens=False).to(self.device)
        with torch.inference_mode():
            written = self.model.generate(
                input_ids=read["input_ids"],
                attention_mask=read["attention_mask"],
                max_new_tokens=max(request.max_tokens for request in requests),
                logits_processor=LogitsProcessorList([Draw(requests, matchers, self.tokens, self.ends)]),
            )
        # Padding is on the left, so every reply begins where the longest prompt ends. Slicing at each prompt's own
        # length instead puts the tail of the shorter prompts into their replies.
        replies = written[:, read["input_ids"].shape[1] :].tolist()
        lengths = read["attention_mask"].sum(1).tolist()
        return [self._reply(*row) for row in zip(requests, replies, lengths, strict=True)]

    def _reply(self, request: Request, tokens: list[int], prompt_tokens: int) -> Reply:
        end = next((n for n, token in enumerate(tokens[: request.max_tokens]) if token in self.ends), None)
        count = min(len(tokens), request.max_tokens) if end is None else end
        text = self.tokenizer.decode(tokens[:count], skip_special_tokens=True).strip()
        return Reply(text, prompt_tokens, count, "length" if end is None else "stop")


def load(settings: ModelSettings, device: str):
    """The tokenizer (padding on the left) and the model, in the precision that the settings ask for.

    Raises:
        UserError: there is no such model, it cannot chat, or the precision needs a GPU.
    """
    name = settings.model
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(name, **loading_options(settings.precision, device)).eval()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the model {name}: {' '.join(str(error).split())[:300]}") from error
    if not tokenizer.chat_template:
        raise UserError(f"the model {name} has no chat template; take one that is made to chat, as Qwen2.5-3B-Instruct")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model if settings.precision in QUANTIZED else model.to(device)


def _ends(tokenizer, model) -> list[int]:
    """Tokens that end a reply; chat models name several."""
    named = model.generation_config.eos_token_id if model.generation_config else None
    listed = named if isinstance(named, list) else [named]
    return sorted({token for token in (*listed, tokenizer.eos_token_id) if token is not None})


def _text(content: str | list[dict]) -> str:
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)
