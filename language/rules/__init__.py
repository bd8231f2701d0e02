"""What a comment must and must not do.

The rules stand in `configs/rules.yaml`. `python -m language.rules compile` checks that file (`schema.py`) and writes
`rules.json`, which `check.py` reads, so that running needs neither YAML nor pydantic.
"""

from language.rules.check import (
    EMOJI,
    describe,
    is_tender,
    rules,
    sentences,
    tender_elements,
    tender_emotions,
    violations,
)

__all__ = [
    "EMOJI",
    "describe",
    "is_tender",
    "rules",
    "sentences",
    "tender_elements",
    "tender_emotions",
    "violations",
]
