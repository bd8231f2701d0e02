"""Element lists -> comments by a language model: training pairs for `language.comment`.

    python -m datagen.comments --config configs/datagen/comments.yaml lists=lists.txt --plan
    python -m datagen.comments --config configs/datagen/comments.yaml lists=lists.txt --budget 5

Lists come from a text file (one a line: `당황, 모자`), from `pipeline.run --json` over a folder, or are drawn from the
label pack. Only the words of a list leave the machine, never a photo.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, PositiveInt, model_validator

from common.errors import exit_with
from common.files import whole_file, write_jsonl
from datagen.jobs import JobSettings, job_command
from datagen.llm.journal import Item, Journal
from datagen.llm.records import Request
from datagen.llm.validate import parse
from datagen.prompts import Example, Prompt, load_prompt, rules_version
from datagen.tables import read_jsonl, read_lines, write_dataset, write_table
from language.records import ElementList
from language.render import render_input
from language.rules import describe, is_tender, rules, violations


class CommentSettings(JobSettings):
    """Settings of a comment job."""

    prompt: Path
    lists: Path | None = None  # text file, or the JSONL of `pipeline.run --json`
    sample: PositiveInt | None = None  # without lists: so many drawn from the label pack
    lang: Literal["ko", "en"] = "ko"
    style: Literal["polite", "casual"] = "polite"
    count: PositiveInt = 3  # comments per list
    formats: list[Literal["jsonl", "csv", "datasets", "original"]] = ["jsonl", "csv"]

    @model_validator(mode="after")
    def _has_source(self):
        if self.lists is None and self.sample is None:
            raise ValueError("needs lists=FILE or sample=NUMBER")
        return self


class Comments(BaseModel):
    """The reply."""

    comments: list[str]


class CommentJob:
    """Asks for `count` comments a list; one that breaks a rule is told which."""

    def __init__(self, settings: CommentSettings) -> None:
        self.settings = settings
        self.prompt = load_prompt(settings.prompt, self._lint)
        self.rules = rules_version(self.prompt)
        low, high = rules()["languages"][settings.lang]["length"]
        text = {"type": "string", "minLength": low, "maxLength": high}
        count = {"minItems": settings.count, "maxItems": settings.count}
        self.schema = {
            "title": "comments",
            "type": "object",
            "properties": {"comments": {"type": "array", "items": text, **count}},
            "required": ["comments"],
            "additionalProperties": False,
        }

    def items(self) -> Iterator[Item]:
        for key, source, problem in self._sources():
            if problem:
                yield Item(key, source, problem=problem)
            else:
                yield Item(key, source, self._request(ElementList.parse(source["elements"], self.settings.lang)))

    def _sources(self) -> Iterator[tuple[str, dict, str]]:
        """Key, source and, for a photo that failed, why."""
        s = self.settings
        if not s.lists:
            from language.comment.corpus import sample_list

            rng = random.Random(s.seed)
            for number in range(s.sample):
                yield str(number), {"elements": render_input(sample_list(rng, s.lang))}, ""
        elif s.lists.suffix == ".jsonl":
            for number, row in read_jsonl(s.lists):
                yield _from_run(row, f"line {number}", s.lang)
        else:
            for number, line in read_lines(s.lists):
                yield str(number), {"elements": render_input(ElementList.parse(line, s.lang))}, ""

    def _request(self, elements: ElementList) -> Request:
        s = self.settings
        ask = {"elements": render_input(elements), "count": str(s.count)}
        system = {"rules": describe(s.lang, s.style, is_tender(elements))}
        return self.settings.request(self.prompt.messages(ask, system), self.schema, self.rules)

    def check(self, text: str, source: dict) -> tuple[object | None, list[str]]:
        reply, problems = parse(text, Comments)
        if reply is None:
            return None, problems
        comments = [" ".join(comment.split()) for comment in reply.comments]
        return {"comments": comments}, self._problems(self.prompt, source["elements"], comments, self.settings.count)

    def _problems(self, prompt: Prompt, elements: str, comments: list[str], count: int) -> list[str]:
        listed = ElementList.parse(elements, self.settings.lang)
        problems = [
            f"“{comment}”: {', '.join(map(prompt.told, broken))}"
            for comment in comments
            if (broken := violations(comment, listed, self.settings.style))
        ]
        if len(comments) != count:
            problems.append(prompt.told("count").replace("COUNT", str(count)).replace("FOUND", str(len(comments))))
        if len(set(comments)) < len(comments):
            problems.append(prompt.told("same"))
        return problems

    def _lint(self, prompt: Prompt, example: Example) -> list[str]:
        comments = example.answer.get("comments", [])
        return self._problems(prompt, example.ask.get("elements", ""), comments, int(example.ask.get("count", "0")))

    def remark(self, problems: list[str], source: dict) -> str:
        return self.prompt.remark(problems)

    def write(self, journal: Journal) -> list[Path]:
        out, s = self.settings.out, self.settings
        files = [out / "pairs.jsonl"]
        write_jsonl(files[0], self._pairs(journal))
        if "csv" in s.formats:
            files.append(out / "pairs.csv")
            write_table(files[-1], self._rows(journal))
        if "original" in s.formats:
            files.append(out / "output_text.json")
            _write_original(files[-1], self._rows(journal))
        if "datasets" in s.formats and files[0].stat().st_size:
            files.append(out / "dataset")
            write_dataset(files[-1], files[0])
        return files

    def _rows(self, journal: Journal) -> Iterator[dict]:
        """A row per comment, with every column of its source."""
        for row in journal.rows("ok"):
            for comment in row["result"]["comments"]:
                lang = {"lang": self.settings.lang, "style": self.settings.style}
                yield {"key": row["key"], **row["source"], "comment": comment, **lang, "model": row["model"]}

    def _pairs(self, journal: Journal) -> Iterator[dict]:
        """Pairs as `language.comment.pairs` reads them; none stands twice."""
        seen = set()
        for row in self._rows(journal):
            pair = {name: row[name] for name in ("elements", "comment", "lang", "style")}
            if (mark := hash((pair["elements"], pair["comment"]))) not in seen:
                seen.add(mark)
                yield pair


def _from_run(row: dict, where: str, lang: str) -> tuple[str, dict, str]:
    """A line of `pipeline.run --json`; its photo's path is the key."""
    key = str(row.get("image") or where)
    if row.get("error"):
        return key, {"image": key, "elements": ""}, f"the photo failed: {row['error'].get('message', 'no reason')}"
    if not isinstance(row.get("elements"), list):
        return key, {"image": key, "elements": ""}, "the line has no elements"
    elements = ElementList.from_ids([e["id"] for e in row["elements"]], lang)
    return key, {"image": key, "elements": render_input(elements)}, ""


def _write_original(path: Path, rows: Iterator[dict]) -> None:
    """The original's file: {"0": [elements, comment], …}."""
    number = -1
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as out:
        for number, row in enumerate(rows):
            pair = json.dumps([row["elements"], row["comment"]], ensure_ascii=False)
            out.write(f'{"," if number else "{"}\n "{number}": {pair}')
        out.write("\n}\n" if number >= 0 else "{}\n")


main = job_command("datagen.comments", __doc__, CommentSettings, CommentJob)

if __name__ == "__main__":
    exit_with(main)
