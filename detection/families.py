"""Which things are kinds of others: Open Images' own hierarchy, and where our further things belong in it.

`families.json` holds `kinds` (an id -> the ids that are kinds of it) and `exact` (a more exact name -> the id of the
thing that it names). The hierarchy is Open Images V7's (CC BY 4.0), in the names of its 601 classes.
"""

import json
from functools import cache, lru_cache
from pathlib import Path

FILE = Path(__file__).with_name("families.json")


@lru_cache
def _raw() -> dict:
    return json.loads(FILE.read_text("utf-8"))


@lru_cache
def _parents() -> dict[str, frozenset[str]]:
    parents: dict[str, set[str]] = {}
    for parent, kinds in _raw()["kinds"].items():
        for kind in kinds:
            parents.setdefault(kind, set()).add(parent)
    return {label: frozenset(found) for label, found in parents.items()}


@cache
def ancestors(label: str) -> frozenset[str]:
    """Everything that a thing is a kind of, at any distance: Dog -> Carnivore, Mammal, Animal."""
    direct = _parents().get(label, frozenset())
    return direct.union(*map(ancestors, direct))


def kinds_of(label: str) -> tuple[str, ...]:
    """The direct kinds of a thing; none where it is no family."""
    return tuple(_raw()["kinds"].get(label, ()))


def related(a: str, b: str) -> bool:
    """Whether one thing is a kind of the other, or both are one."""
    return a == b or a in ancestors(b) or b in ancestors(a)


def akin(a: str, b: str) -> bool:
    """Whether two things belong to one family: two names that may well mean the same spot."""
    return related(a, b) or bool(ancestors(a) & ancestors(b))


def thing_of(label: str) -> str:
    """The thing that a more exact name names ("Golden retriever" -> Dog); any other id is itself."""
    return _raw()["exact"].get(label, label)
