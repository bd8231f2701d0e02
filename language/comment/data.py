"""From pairs to the token ids that a writer learns from."""

from collections import Counter
from pathlib import Path

from configs.errors import UserError
from language.comment import corpus
from language.comment.likelihood import IGNORED
from language.comment.pairs import read_keys, read_pairs
from language.records import ElementList, Pair
from language.render import end_after_source, render_source, render_target

LEAST_PAIRS = 10


def load_pairs(file: Path | None, exclude: Path | None, composed: dict[str, dict[str, int]], seed: int) -> list[Pair]:
    """The pairs of a file without the keys in `exclude`; where no file is given, our own corpus: the pairs written one
    by one and `composed[lang][style]` more.

    Raises:
        UserError: files are missing or hold mistakes, a key to exclude is unknown, or too few pairs are left.
    """
    if not file:
        counts = [(lang, style, count) for lang, styles in composed.items() for style, count in styles.items()]
        ours = [pair for lang in composed for pair in corpus.written(lang)]
        return ours + [pair for lang, style, count in counts for pair in corpus.build(count, seed, lang, style)]
    pairs = read_pairs(file)
    keys = read_keys(exclude) if exclude else []
    if unknown := [key for key in keys if key not in pairs]:
        raise UserError(f"{exclude}: keys that {file} does not have: {', '.join(unknown[:5])}")
    left = [pair for key, pair in pairs.items() if key not in set(keys)]
    if len(left) < LEAST_PAIRS:
        raise UserError(f"{file} holds {len(left)} pairs to learn from; at least {LEAST_PAIRS} are needed")
    return left


def repeated(pairs: list[Pair], times: dict[str, int]) -> list[Pair]:
    """Pairs with those of our written corpus `times[lang]` times over: they are few, and the best."""
    weights = Counter({pair: times[lang] for lang in times for pair in corpus.written(lang)})
    return [pair for pair in pairs for _ in range(max(1, weights[pair]))]


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
