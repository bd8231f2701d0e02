"""A small T5 run by CTranslate2: several candidates, reranked by the rules and the model's score."""

import json
import random
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from configs.errors import UserError
from language.memory import Memory, opening
from language.records import Comment, ElementList, Evidence
from language.render import RENDER_VERSION, render_input
from language.rules import violations

POCKET = {"t5": Path(__file__).with_name("t5_pocket")}
PLANNED = ("gpt2",)
CANDIDATES = 8  # decoded together; a word in common with the list is rarely missing from all of them
MAX_TOKENS = 64


class CommentWriter:
    """Writes comments for element lists.

    Args:
        model: "t5" (embedded) or the folder of a trained writer.
        lang: language of the comments.
        style: "polite" or "casual".

    Raises:
        UserError: the model does not exist, is damaged, was made for another rendering, or does not write this
            language or style.
    """

    def __init__(self, model: str = "t5", lang: str = "ko", style: str = "polite"):
        folder = find_model(str(model))
        self.card = read_card(folder)
        if lang not in [self.card["lang"]]:
            raise UserError(f"the writer {model} writes {self.card['lang']} only, not {lang}")
        if style not in self.card["styles"]:
            raise UserError(f"the writer {model} has no style {style} (it has: {', '.join(self.card['styles'])})")
        self.lang, self.style = lang, style
        with hidden_modules("torch", "transformers"):
            import ctranslate2
        from tokenizers import Tokenizer

        try:
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            # one thread: at this size a second one costs ten times what it brings
            self.translator = ctranslate2.Translator(
                str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=1
            )
        except Exception as error:  # both raise plain Exceptions for damaged files
            raise UserError(f"the writer in {folder} is damaged ({str(error).splitlines()[0][:120]})") from None

    def write(
        self, elements: ElementList | Iterable[str] | str, count: int = 1, seed: int = 0, memory: Memory | None = None
    ) -> list[Comment]:
        """`count` different comments, best first; the same seed gives the same comments.

        Args:
            elements: an `ElementList`, ids (`["panic", "Hat"]`) or names in any language (`"공포, 모자"`).
            memory: what was said lately; the best comment is added to it.
        """
        if count < 1:
            raise UserError(f"count must be at least 1, but got {count}")
        elements = self._as_list(elements)
        candidates = self._candidates(
            elements, random.Random(f"{seed} {render_input(elements)}"), max(CANDIDATES, 2 * count)
        )
        chosen: list[Comment] = []
        for candidate in rank(candidates, elements, memory):
            if all(opening(candidate.text) != opening(other.text) for other in chosen):
                chosen.append(candidate)
        if memory and chosen:
            memory.add(chosen[0].text)
        return [replace(c, evidence=find_evidence(c.text, elements)) for c in chosen[:count]]

    def _as_list(self, elements: ElementList | Iterable[str] | str) -> ElementList:
        if isinstance(elements, str):
            return ElementList.parse(elements, self.lang)
        if not isinstance(elements, ElementList):
            return ElementList.from_ids(elements, self.lang)
        return elements if elements.lang == self.lang else ElementList.from_ids((e.id for e in elements), self.lang)

    def _candidates(self, elements: ElementList, rng: random.Random, count: int) -> list[Comment]:
        """Different beginnings, each written to its end; some then grow a second half anew.

        CTranslate2's sampler is seeded once per thread, so its draws depend on what was written before. Expanding
        the likeliest next tokens at a seeded place is as varied, and the same for the same seed.
        """
        source = self.tokenizer.encode(render_input(elements)).tokens
        first = self._expand(source, [], count)
        # a likely beginning more often than an unlikely one
        stem = rng.choices(first, [1 / (rank + 2) for rank in range(len(first))])[0]
        cut = rng.randrange(1, max(2, len(stem) * 2 // 3))
        written = {self._text(tokens): tokens for tokens in [*first, *self._expand(source, stem[:cut], count)]}
        written.pop("", None)
        scored = self.translator.score_batch([source] * len(written), list(written.values()))
        return [
            Comment(text, round(sum(score.log_probs) / len(score.log_probs), 4))
            for text, score in zip(written, scored, strict=True)
        ]

    def _expand(self, source: list[str], prefix: list[str], count: int) -> list[list[str]]:
        """`count` continuations of `prefix` that differ in their next token, the likeliest first."""
        return self.translator.translate_batch(
            [source],
            target_prefix=[prefix] if prefix else None,
            num_hypotheses=count,
            return_alternatives=True,
            beam_size=1,
            max_decoding_length=MAX_TOKENS,
            min_alternative_expansion_prob=0.002,
        )[0].hypotheses

    def _text(self, tokens: list[str]) -> str:
        ids = [i for token in tokens if (i := self.tokenizer.token_to_id(token)) is not None]
        return self.tokenizer.decode(ids).strip()


def find_model(model: str) -> Path:
    """The folder of a writer.

    Raises:
        UserError: unknown name, or a folder that holds no writer.
    """
    if model in POCKET:
        folder = POCKET[model]
    elif model in PLANNED:
        raise UserError(
            f"the embedded writer {model} does not exist yet (there is: {', '.join(POCKET)}, or a trained folder)"
        )
    else:
        folder = Path(model)
        if not folder.is_dir():
            raise UserError(
                f"unknown writer {model!r}: allowed are {', '.join([*POCKET, *PLANNED])} or a trained model's folder"
            )
    missing = [name for name in ("writer.json", "model.bin", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} holds no writer ({', '.join(missing)} missing); `python -m language.comment.train` exports one"
        )
    return folder


def read_card(folder: Path) -> dict:
    """How a writer wants its input; refuses one that was trained with another rendering."""
    try:
        card = json.loads((folder / "writer.json").read_text("utf-8"))
        version = card["render_version"]
    except (ValueError, KeyError):
        raise UserError(f"{folder / 'writer.json'} is damaged") from None
    if version != RENDER_VERSION:
        raise UserError(
            f"the writer in {folder} was trained with input rendering {version}, not {RENDER_VERSION}; train it again"
        )
    return card


def rank(candidates: list[Comment], elements: ElementList, memory: Memory | None = None) -> list[Comment]:
    """Fewest broken rules first, then what was not said lately, then the model's score; no text twice."""
    distinct = {c.text: c for c in candidates}.values()
    return sorted(
        distinct, key=lambda c: (len(violations(c.text, elements)), memory.repeats(c.text) if memory else 0, -c.score)
    )


def find_evidence(text: str, elements: ElementList) -> tuple[Evidence, ...]:
    """Where a comment names an element; a longer name wins over one inside it."""
    spans: list[Evidence] = []
    for element in sorted(elements, key=lambda e: -len(e.name)):
        start = text.find(element.name)
        while start >= 0:
            end = start + len(element.name)
            if all(end <= s.start or start >= s.end for s in spans):
                spans.append(Evidence(element.name, start, end, element.id))
            start = text.find(element.name, end)
    return tuple(sorted(spans, key=lambda s: s.start))


@contextmanager
def hidden_modules(*names: str):
    """Make imports of `names` fail inside the block.

    `import ctranslate2` imports torch where it is installed, for its converters alone: two seconds that a run-time
    start cannot afford.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
