"""A small T5 run by CTranslate2: several candidates, reranked by the rules and the model's score."""

import json
import random
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import mean

from configs.errors import UserError
from language.memory import Memory, opening
from language.records import Comment, Element, ElementList, find_evidence
from language.render import RENDER_VERSION, render_input, render_plan
from language.rules import tender_emotions, violations

POCKET = {"t5": Path(__file__).with_name("t5_pocket")}
PLANNED = ("gpt2",)
CANDIDATES = 16  # decoded in one batch, over all plans
LEEWAY = 0.12  # in mean log probability per token
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
        rng = random.Random(f"{seed} {render_input(elements)}")
        ranked = rank(self._candidates(elements, rng, count), elements, rng, memory)
        best: dict[str, Comment] = {}
        for candidate in ranked:
            best.setdefault(opening(candidate.text), candidate)
        # comments for one photo begin differently while there are beginnings enough
        chosen = [*best.values(), *(c for c in ranked if c not in best.values())][:count]
        if memory:
            memory.add(chosen[0].text)
        return [replace(c, evidence=find_evidence(c.text, elements)) for c in chosen]

    def _as_list(self, elements: ElementList | Iterable[str] | str) -> ElementList:
        if isinstance(elements, str):
            return ElementList.parse(elements, self.lang)
        if not isinstance(elements, ElementList):
            return ElementList.from_ids(elements, self.lang)
        return elements if elements.lang == self.lang else ElementList.from_ids((e.id for e in elements), self.lang)

    def _candidates(self, elements: ElementList, rng: random.Random, count: int) -> list[Comment]:
        """More comments than are wanted: for each plan of what to speak of, several beginnings written to their end.

        CTranslate2's sampler is seeded once per thread, so its draws depend on what was written before. Expanding
        the likeliest first words of each plan is as varied, and always the same.
        """
        source = self._tokens(render_input(elements)) + [self.card["eos"]]
        prefixes = [self._tokens(render_plan(elements, plan)) for plan in plans(elements, rng)]
        results = self.translator.translate_batch(
            [source] * len(prefixes),
            target_prefix=prefixes,
            num_hypotheses=-(-max(CANDIDATES, 2 * count) // len(prefixes)),
            return_alternatives=True,
            beam_size=1,
            max_decoding_length=MAX_TOKENS,
            min_alternative_expansion_prob=0.002,
        )
        written = {
            text: (tokens, len(prefix))
            for prefix, result in zip(prefixes, results, strict=True)
            for tokens in result.hypotheses
            if (text := self._text(tokens[len(prefix) :]))
        }
        scored = self.translator.score_batch([source] * len(written), [tokens for tokens, _ in written.values()])
        return [
            Comment(text, round(mean(score.log_probs[skip:]), 4))
            for (text, (_, skip)), score in zip(written.items(), scored, strict=True)
        ]

    def _tokens(self, text: str) -> list[str]:
        return self.tokenizer.encode(text, add_special_tokens=False).tokens

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


def plans(elements: ElementList, rng: random.Random) -> list[list[Element]]:
    """Up to four choices of which things a comment speaks of: one, or two where the mood is light.

    The most salient thing has the best chance; what else comes is drawn.
    """
    things = elements.of_kind("object")[:4]
    if not things:
        return [[]]
    moods = {e.id for e in elements.of_kind("emotion")}
    if moods and moods <= tender_emotions():
        return [[thing] for thing in things[:2]]
    pairs = [[a, b] for a in things[:2] for b in things if a != b]
    return [[things[0]], *rng.sample(pairs, min(3, len(pairs)))]


def rank(
    candidates: list[Comment], elements: ElementList, rng: random.Random, memory: Memory | None = None
) -> list[Comment]:
    """Fewest broken rules first, then what was not said lately, then good ones in a drawn order, then the others.

    Good is what comes within `LEEWAY` of the best score: below that, small models mix up their sentences.
    """
    broken = {c.text: len(violations(c.text, elements)) for c in candidates}
    best = max((c.score for c in candidates if broken[c.text] == min(broken.values())), default=0)
    place = {c.text: rng.random() if c.score >= best - LEEWAY else 1 + best - c.score for c in candidates}
    repeats = memory.repeats if memory else lambda text: 0
    return sorted(candidates, key=lambda c: (broken[c.text], repeats(c.text), place[c.text]))


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
