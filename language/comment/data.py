"""From pairs to the token ids that a writer learns from."""

from math import ceil
from pathlib import Path

from common.errors import UserError
from language.comment import corpus
from language.comment.likelihood import IGNORED
from language.comment.pairs import Split, fingerprint, read_keys, read_pairs
from language.records import ElementList, Pair
from language.render import end_after_source, render_source, render_target

LEAST_PAIRS = 10


def load_pairs(file: Path, exclude: Path | None) -> list[Pair]:
    """The pairs of a file without the keys in `exclude`.

    Raises:
        UserError: files are missing or hold mistakes, a key to exclude is unknown, or too few pairs are left.
    """
    pairs = read_pairs(file)
    keys = read_keys(exclude) if exclude else []
    if unknown := [key for key in keys if key not in pairs]:
        raise UserError(f"{exclude}: keys that {file} does not have: {', '.join(unknown[:5])}")
    left = [pair for key, pair in pairs.items() if key not in set(keys)]
    if len(left) < LEAST_PAIRS:
        raise UserError(f"{file} holds {len(left)} pairs to learn from; at least {LEAST_PAIRS} are needed")
    return left


def draw_split(drawn: dict[str, dict[str, int]], share: float, seed: int) -> Split:
    """`drawn[lang][style]` pairs of our own corpus to learn from, and a share as many with lines that none has."""
    counts = [(lang, style, count) for lang, styles in drawn.items() for style, count in styles.items()]
    train = [pair for lang, style, count in counts for pair in corpus.build(count, seed, lang, style)]
    held_out = [
        pair for lang, style, count in counts for pair in corpus.build(ceil(count * share), seed, lang, style, True)
    ]
    return Split(train, held_out, fingerprint(held_out))


def token_rows(pairs: list[Pair], tokenizer, architecture: str, template: str) -> list[tuple[list[int], list[int]]]:
    """(source, target) ids of each pair, unpadded; a target ends with the end token, so that writers learn to stop."""
    elements = [ElementList.parse(p.elements, p.lang) for p in pairs]
    sources = [render_source(e, template) for e in elements]
    targets = [render_target(e, p.comment, p.style, template) for e, p in zip(elements, pairs, strict=True)]
    ids = lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"]
    mark = [tokenizer.eos_token_id] if end_after_source(architecture, template) else []
    return [(s + mark, t + [tokenizer.eos_token_id]) for s, t in zip(ids(sources), ids(targets), strict=True)]


def encode(pairs: list[Pair], tokenizer, architecture: str, template: str, max_tokens: int):
    """A `datasets.Dataset` with unpadded `input_ids` and `labels`; pairs longer than `max_tokens` are left out.

    T5 reads the source and learns the target; GPT-2 reads both in one and learns the target alone.
    """
    from datasets import Dataset

    rows = token_rows(pairs, tokenizer, architecture, template)
    fitting = [(s, t) for s, t in rows if len(s) + len(t) <= max_tokens]
    if len(fitting) < len(rows):
        print(f"{len(rows) - len(fitting)} pairs longer than {max_tokens} tokens are left out")
    if architecture == "gpt2":
        fitting = [(s + t, [IGNORED] * len(s) + t) for s, t in fitting]
    return Dataset.from_dict({"input_ids": [s for s, _ in fitting], "labels": [t for _, t in fitting]})
