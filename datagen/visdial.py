"""Answers to VisDial's questions by a language model that sees photo and dialog: to learn from, and to be measured.

    python -m datagen.visdial --config configs/datagen/visdial_reasoning.yaml dialogs=visdial_1.0_train.json photos=coco
    python -m datagen.visdial --config configs/datagen/visdial_evaluation.yaml dialogs=visdial_1.0_val.json photos=coco

Modes: `base` (answers) and `reasoning` (a line of thought, then the answer) write `data.jsonl` and, for training,
`train.jsonl`; `evaluation` writes `predictions.jsonl` and, apart from it, `gold.jsonl`. The gold answer is no part of
what is asked: a guard looks at every prompt and stops the job where it is.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from common.errors import exit_with
from common.files import whole_file, write_jsonl
from datagen.jobs import JobSettings, job_command
from datagen.llm.journal import Item, Journal
from datagen.llm.records import Request
from datagen.llm.validate import parse
from datagen.prompts import Example, Prompt, load_prompt, object_of_texts, rules_version
from language.visdial.dialogs import Dialog, conversation, guard, read_dialogs
from language.visdial.photos import photos_by_id

MARKUP = re.compile(r"[<>\n]|\b[QA]:")
LETTERS = 12  # most characters of a word, for the bounds of the reply's schema


class VisdialSettings(JobSettings):
    """Settings of a dialog job."""

    dialogs: Path  # VisDial 1.0 JSON
    photos: Path | None = None  # folder, looked through with all within; None: the dialog alone is sent
    prompt: Path
    mode: Literal["base", "reasoning", "evaluation"]
    rounds: Literal["last", "all"] = "last"  # which questions of a dialog are asked
    longest_answer: PositiveInt = 25  # words
    longest_reasoning: PositiveInt = 80
    tag: Annotated[str, Field(pattern="^[a-z]+$")] = "reasoning"  # around the line of thought in train.jsonl


class Answer(BaseModel):
    """A reply of modes base and evaluation."""

    model_config = ConfigDict(extra="forbid")
    answer: str


class Reasoned(Answer):
    """A reply of mode reasoning."""

    reasoning: str


class VisdialJob:
    """Asks the last question of every dialog, or each of them; the source of an item never holds its gold answer."""

    def __init__(self, settings: VisdialSettings) -> None:
        self.settings = settings
        self.shape = Reasoned if settings.mode == "reasoning" else Answer
        longest = {"reasoning": settings.longest_reasoning, "answer": settings.longest_answer}
        self.longest = {name: most for name, most in longest.items() if name in self.shape.model_fields}
        self.schema = object_of_texts("answer", {name: LETTERS * most for name, most in self.longest.items()})
        self.prompt = load_prompt(settings.prompt, self._lint)
        self.rules = rules_version(self.prompt)
        self.template = "\n".join(message["content"] for message in self._messages(""))
        self.dialogs = read_dialogs(settings.dialogs, options=False)
        self.photos = photos_by_id(settings.photos) if settings.photos else {}

    def items(self) -> Iterator[Item]:
        for dialog in self.dialogs:
            for turn in self._turns(dialog):
                source = {"image_id": dialog.image_id, "round": turn, "conversation": conversation(dialog, turn)}
                photo, problem = self._photo(dialog.image_id)
                problem = "the question is empty" if not dialog.rounds[turn - 1].question else problem
                request = None if problem else self._request(dialog, turn, source["conversation"], photo)
                source["photo"] = photo and Path(photo["path"]).relative_to(self.settings.photos).as_posix()
                yield Item(_key(dialog.image_id, turn), source, request, problem)

    def _turns(self, dialog: Dialog) -> range:
        last = len(dialog.rounds)
        return range(1 if self.settings.rounds == "all" else max(last, 1), last + 1)

    def _photo(self, image_id: int) -> tuple[dict | None, str]:
        """The photo as part of a message, or why there is none."""
        if self.settings.photos is None:
            return None, ""
        path = self.photos.get(image_id)
        if path is None:
            return None, f"no photo of image {image_id} in {self.settings.photos}"
        try:
            data = path.read_bytes()
            if problem := _jpeg_problem(data):
                return None, f"{path.name} {problem}"
        except OSError as error:
            return None, f"cannot read {path.name}: {error.strerror}"
        return {"type": "image", "path": str(path), "sha256": hashlib.sha256(data).hexdigest()}, ""

    def _messages(self, asked: str) -> tuple[dict, ...]:
        return self.prompt.messages({"conversation": asked}, {name: str(most) for name, most in self.longest.items()})

    def _request(self, dialog: Dialog, turn: int, asked: str, photo: dict | None) -> Request:
        request = self.settings.request(self._messages(asked), self.schema, self.rules)
        guard(request.text, dialog, turn, self.template)
        if photo is None:
            return request
        *before, question = request.messages
        parts = [photo, {"type": "text", "text": question["content"]}]
        return replace(request, messages=(*before, {**question, "content": parts}))

    def check(self, text: str, source: dict) -> tuple[object | None, list[str]]:
        reply, problems = parse(text, self.shape)
        if reply is None:
            return None, problems
        told = {name: getattr(reply, name).strip() for name in self.longest}
        for name, most in self.longest.items():
            if not told[name]:
                problems.append(f"the {name} is empty")
            if (words := len(told[name].split())) > most:
                problems.append(f"the {name} has {words} words; write at most {most}")
            if MARKUP.search(told[name]):
                problems.append(f"the {name} has marks, line breaks or a conversation in it; write plain words")
        return told, problems

    def _lint(self, prompt: Prompt, example: Example) -> list[str]:
        if "conversation" not in example.ask:
            return ["ask has no conversation"]
        return self.check(json.dumps(example.answer), {})[1]

    def remark(self, problems: list[str], source: dict) -> str:
        return self.prompt.remark(problems)

    def write(self, journal: Journal) -> list[Path]:
        out, mode = self.settings.out, self.settings.mode
        names = ["predictions.jsonl", "gold.jsonl"] if mode == "evaluation" else ["data.jsonl", "train.jsonl"]
        files = [out / name for name in (*names, "figures.json")]
        gold = {_key(d.image_id, t): d.rounds[t - 1].answer for d in self.dialogs for t in self._turns(d)}
        if mode == "evaluation":
            write_jsonl(files[0], map(_answered, journal.rows("ok")))
            write_jsonl(files[1], (_gold_row(r, gold) for r in journal.rows("ok") if gold.get(r["key"])))
        else:
            write_jsonl(files[0], ({**_answered(r), "gold": gold.get(r["key"])} for r in journal.rows("ok")))
            write_jsonl(files[1], map(self._example, journal.rows("ok")))
        with whole_file(files[2]) as part, part.open("w", encoding="utf-8", newline="") as lines:
            json.dump(self._figures(journal, gold), lines, indent=1)
        return files

    def _example(self, row: dict) -> dict:
        """A row as a chat to train on: the thought stands in tags before the answer."""
        source, told, tag = row["source"], row["result"], self.settings.tag
        answer = told["answer"]
        if "reasoning" in told:
            answer = f"<{tag}>{told['reasoning']}</{tag}>\n{answer}"
        photo = [{"type": "image", "image": source["photo"]}] if source["photo"] else []
        asked = [*photo, {"type": "text", "text": source["conversation"]}]
        turns = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ]
        return {"id": row["key"], **({"image": source["photo"]} if photo else {}), "messages": turns}

    def _figures(self, journal: Journal, gold: dict[str, str | None]) -> dict:
        count = rounds = words = thoughts = thought_words = known = same = 0
        for row in journal.rows("ok"):
            told, right = row["result"], gold.get(row["key"])
            count += 1
            rounds += row["source"]["round"] - 1
            words += len(told["answer"].split())
            thoughts += bool(told.get("reasoning"))
            thought_words += len(told.get("reasoning", "").split())
            known += right is not None
            same += right is not None and _plain(told["answer"]) == _plain(right)
        asked = journal.distinct()
        share = lambda part, whole: round(part / whole, 4) if whole else None
        first = journal.first_try()
        return {
            "answers": count,
            "valid_at_first_try": None if first is None else round(first, 4),
            "valid_after_retry": share(asked["ok"], asked["ok"] + asked["failed"]),
            "mean_earlier_rounds": share(rounds, count),
            "mean_answer_words": share(words, count),
            "reasoning_coverage": share(thoughts, count),
            "mean_reasoning_words": share(thought_words, thoughts),
            "same_as_gold": share(same, known),
        }


def _key(image_id: int, turn: int) -> str:
    return f"{image_id}_{turn}"


def _answered(row: dict) -> dict:
    source, told = row["source"], row["result"]
    thought = {"reasoning": told["reasoning"]} if "reasoning" in told else {}
    return {**{n: source[n] for n in ("image_id", "round", "conversation")}, **thought, "response": told["answer"]}


def _gold_row(row: dict, gold: dict[str, str | None]) -> dict:
    return {"image_id": row["source"]["image_id"], "round": row["source"]["round"], "answer": gold[row["key"]]}


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _jpeg_problem(data: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as image:
            image.draft("RGB", (64, 64))  # all of the file is read, and an eighth of the pixels made
            image.load()
            return "" if image.format == "JPEG" else f"is {image.format}, not JPEG"
    except (OSError, SyntaxError, ValueError, ImportError) as error:  # see datagen/fetch.py
        return f"is broken: {' '.join(str(error).split())[:100]}"


main = job_command("datagen.visdial", __doc__, VisdialSettings, VisdialJob)

if __name__ == "__main__":
    exit_with(main)
