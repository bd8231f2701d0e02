"""Korean words as Kiwi cuts them: stems, particles and endings apart, as `sacrebleu`'s ko-mecab does with Mecab."""

from functools import lru_cache


@lru_cache
def _kiwi():
    from kiwipiepy import Kiwi

    return Kiwi()


def words(text: str) -> list[str]:
    """Morphemes of a text, in order; other languages come out as words."""
    return [token.form for token in _kiwi().tokenize(text)]


def version() -> str:
    """Name and version of the tokenizer, for signatures."""
    import kiwipiepy

    return f"kiwi-{kiwipiepy.__version__}"


def streams(references: list[list[str]]) -> list[list[str | None]]:
    """References by rank, as sacrebleu wants them; None where a prediction has fewer."""
    most = max(map(len, references))
    return [[refs[rank] if rank < len(refs) else None for refs in references] for rank in range(most)]
