"""A label pack in another language by a language model, with glossary, collision check and a file for a reviewer.

    python -m datagen.labels --config configs/datagen/labels.yaml --plan
    python -m datagen.labels --config configs/datagen/labels.yaml

`review.csv` holds every name with its problems. What a reviewer writes into its column `reviewed` counts from the next
run on, which asks nothing that is answered; `pack.json` is there once no name is missing, shared or strange. It goes
to `detection/label_packs/LANGUAGE.json`.
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, PositiveInt

from common.errors import UserError, exit_with
from common.files import whole_file
from datagen.jobs import JobSettings, job_command
from datagen.llm.journal import Item, Journal
from datagen.llm.records import Request
from datagen.llm.validate import parse
from datagen.prompts import Example, Prompt, load_prompt, object_of_texts, rules_version
from datagen.tables import read_table, write_table
from detection.labels import SCRIPTS, SECTIONS, kind_of, languages, lint, load_pack

NEVER_IN = re.compile(r"[,;:/()\[\]{}\"“”<>|\n]")  # a name stands in lists, and lists are cut at commas
KINDS = {
    "emotion": "what a face shows",
    "moment": "what is going on in a photo",
    "object": "a thing in a photo",
    "scene": "where a photo was taken",
}


class LabelSettings(JobSettings):
    """Settings of a label translation."""

    prompt: Path
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")]  # code of the new pack: ja
    language_name: str  # as the prompt calls it: Japanese
    source: str = "en"  # pack that is translated
    glossary: Path | None = None  # CSV: source, translation; source is a name or an id
    longest: PositiveInt = 30  # characters of a name


class Name(BaseModel):
    """The reply."""

    name: str


class LabelJob:
    """Asks for one name at a time; a name that another class has is told so."""

    def __init__(self, settings: LabelSettings) -> None:
        self.settings = settings
        self.prompt = load_prompt(settings.prompt, self._lint)
        self.rules = rules_version(self.prompt)
        self.script = re.compile(SCRIPTS.get(settings.language, ".+"))
        self.names = load_pack(settings.source).names
        self.terms = _glossary(settings.glossary) if settings.glossary else {}
        self._check_terms()
        self.review = settings.out / "review.csv"
        self.reviewer = _reviewed(self.review)
        self.fixed = {label: term for label in self.names if (term := self._term(label))}
        self.fixed |= {label: row["reviewed"] for label, row in self.reviewer.items() if row["reviewed"]}
        made = {label: row["translation"] for label, row in self.reviewer.items() if row["origin"] == "model"}
        self.owners = {name.casefold(): label for label, name in {**made, **self.fixed}.items()}
        self.schema = object_of_texts("name", {"name": settings.longest})

    def _check_terms(self) -> None:
        known = {label.casefold() for label in self.names}.union(
            term for name in self.names.values() for term, _ in self._terms_in(name)
        )
        if strange := [term for term in self.terms if term not in known]:
            raise UserError(f"{self.settings.glossary}: no name has {', '.join(map(repr, strange))} in it")

    def _term(self, label: str) -> str | None:
        return self.terms.get(label.casefold()) or self.terms.get(self.names[label].casefold())

    def items(self) -> Iterator[Item]:
        for label, name in self.names.items():
            if label not in self.fixed:
                source = {"id": label, "kind": kind_of(label), "name": name}
                yield Item(label, source, self._request(source))

    def _request(self, source: dict) -> Request:
        s, label = self.settings, source["id"]
        others = [code for code in languages() if code not in (s.source, s.language)]
        ask = {
            "name": source["name"],
            "id": label,
            "kind": KINDS[source["kind"]],
            "others": "; ".join(f"{code}: {load_pack(code).name(label)}" for code in others) or "none",
            "glossary": "; ".join(f"{term} = {name}" for term, name in self._terms_in(source["name"])) or "none",
        }
        return self.settings.request(
            self.prompt.messages(ask, {"language": s.language_name, "longest": str(s.longest)}), self.schema, self.rules
        )

    def _terms_in(self, name: str) -> list[tuple[str, str]]:
        """The glossary's terms that are words of a name."""
        return [(t, to) for t, to in self.terms.items() if re.search(rf"\b{re.escape(t)}\b", name, re.IGNORECASE)]

    def check(self, text: str, source: dict) -> tuple[object | None, list[str]]:
        reply, problems = parse(text, Name)
        if reply is None:
            return None, problems
        name = " ".join(reply.name.split())
        problems = self._problems(name)
        if not problems and (owner := self.owners.setdefault(name.casefold(), source["id"])) != source["id"]:
            problems = [f"{name!r} is the name of {owner!r} already; give one that tells the two apart"]
        return {"name": name}, problems

    def _problems(self, name: str) -> list[str]:
        if not name:
            return ["the name is empty"]
        problems = []
        if len(name) > self.settings.longest:
            problems.append(f"the name has {len(name)} characters; write at most {self.settings.longest}")
        if found := NEVER_IN.search(name):
            problems.append(f"the name has {found.group()!r} in it; write the bare name")
        elif not self.script.fullmatch(name):
            problems.append(f"{name!r} is not written in {self.settings.language_name} script alone")
        return problems

    def _lint(self, prompt: Prompt, example: Example) -> list[str]:
        reply, problems = parse(json.dumps(example.answer), Name)
        return problems or (["the name has a mark in it"] if NEVER_IN.search(reply.name) else [])

    def remark(self, problems: list[str], source: dict) -> str:
        return self.prompt.remark(problems)

    def write(self, journal: Journal) -> list[Path]:
        self.reviewer = _reviewed(self.review)  # again, as someone may have written there while this ran
        rows = self._rows(journal)
        write_table(self.review, rows)
        pack = self._pack({row["id"]: row["reviewed"] or row["translation"] for row in rows})
        file, problems = self.settings.out / "pack.json", lint(pack)
        unsolved = [row["id"] for row in rows if row["origin"] == "failed"]
        if problems or unsolved:
            file.unlink(missing_ok=True)
            told = f"{len(problems) or len(unsolved)} problems, as {(problems or unsolved)[0]}"
            print(f"no pack yet: {told}; fill the column `reviewed` of {self.review}", file=sys.stderr)
            return [self.review]
        with whole_file(file) as part, part.open("w", encoding="utf-8", newline="") as out:
            out.write(json.dumps(pack, ensure_ascii=False, indent=1) + "\n")
        return [self.review, file]

    def _rows(self, journal: Journal) -> list[dict]:
        """A row per class for the reviewer; what they wrote before stays."""
        made = {row["key"]: ("model", row["result"]["name"], "") for row in journal.rows("ok")}
        for row in journal.rows("failed"):
            reply, _ = parse(row["reply"] or "", Name)
            made[row["key"]] = ("failed", reply.name if reply else "", row["reason"])
        made |= {label: ("glossary", term, "") for label in self.names if (term := self._term(label))}
        rows = []
        for label, source in self.names.items():
            origin, name, problem = made.get(label, ("not asked yet", "", ""))
            written = self.reviewer.get(label, {})
            own = {name: written.get(name, "") for name in ("reviewed", "note")}
            if own["reviewed"]:
                problem = "; ".join(self._problems(own["reviewed"]))
                origin = "failed" if problem else "reviewer"
            final = own["reviewed"] or name
            doubts = [problem] if problem else self._doubts(source, final) if final else []
            row = {"id": label, "kind": kind_of(label), "source": source, "translation": name, "origin": origin}
            rows.append({**row, "problems": "; ".join(doubts), **own})
        return _with_collisions(rows)

    def _doubts(self, source: str, name: str) -> list[str]:
        """What a reviewer should look at, though it may be right."""
        doubts = [
            f"the glossary says {to!r} for {term!r}"
            for term, to in self._terms_in(source)
            if to.casefold() not in name.casefold()
        ]
        return doubts + (["the same as the source"] if name.casefold() == source.casefold() else [])

    def _pack(self, names: dict[str, str]) -> dict:
        pick = lambda ids: {label: names[label] for label in ids}
        language = {"language": self.settings.language}
        return {**language, **{section: pick(ids) for section, ids in SECTIONS.items()}, "aliases": {}}


def _with_collisions(rows: list[dict]) -> list[dict]:
    owners = defaultdict(list)
    for row in rows:
        if name := (row["reviewed"] or row["translation"]).casefold():
            owners[name].append(row["id"])
    for row in rows:
        others = [i for i in owners[(row["reviewed"] or row["translation"]).casefold()] if i != row["id"]]
        if others:
            row["problems"] = "; ".join(filter(None, [row["problems"], f"the name of {', '.join(others)}, too"]))
    return rows


def _glossary(file: Path) -> dict[str, str]:
    """Casefolded term -> its translation.

    Raises:
        UserError: it cannot be read, or a term is empty or stands twice.
    """
    terms: dict[str, str] = {}
    for number, row in enumerate(read_table(file, ("source", "translation")), 2):
        term, to = row["source"].strip().casefold(), row["translation"].strip()
        if not term or not to:
            raise UserError(f"{file}, row {number}: source or translation is empty")
        if terms.setdefault(term, to) != to:
            raise UserError(f"{file}, row {number}: {term!r} is both {terms[term]!r} and {to!r}")
    return terms


def _reviewed(file: Path) -> dict[str, dict]:
    """The review file by id, with what a reviewer wrote; nothing where there is none yet.

    Raises:
        UserError: the file lost a column, or an id stands twice.
    """
    if not file.exists():
        return {}
    rows: dict[str, dict] = {}
    for row in read_table(file, ("id", "translation", "origin", "reviewed", "note")):
        if row["id"] in rows:
            raise UserError(f"{file}: the id {row['id']!r} stands twice")
        rows[row["id"]] = {**row, "reviewed": " ".join(row["reviewed"].split())}
    return rows


main = job_command("datagen.labels", __doc__, LabelSettings, LabelJob)

if __name__ == "__main__":
    exit_with(main)
