"""Dialogs of VisDial 1.0, how a conversation is written, and the guard that keeps the gold answer out of prompts."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from common.errors import UserError

VERSION = "1.0"
T = TypeVar("T")


class GoldLeak(UserError):
    """The answer that is asked for stands in the prompt that asks for it."""


@dataclass(frozen=True, slots=True)
class Round:
    """A question and what the person who saw the photo answered; None where that is kept secret (the test split).

    Attributes:
        options: the answers to rank, 100 of them in VisDial 1.0; None where the file gives none.
        gold: where `answer` stands in `options`, from 0; None where that is kept secret.
    """

    question: str
    answer: str | None
    options: tuple[str, ...] | None = None
    gold: int | None = None


@dataclass(frozen=True, slots=True)
class Dialog:
    """All rounds about one COCO photo, and its caption."""

    image_id: int
    caption: str
    rounds: tuple[Round, ...]


def read_dialogs(file: Path, options: bool = True) -> list[Dialog]:
    """The dialogs of a VisDial 1.0 JSON file: train, val or test.

    Args:
        options: False leaves the answers to rank unread; in the train split they are most of 6 GB of memory.

    Raises:
        UserError: it cannot be read, is something else or another version; a dialog that breaks the format is named.
    """
    shape = f"{file} is no VisDial 1.0 file (data with questions, answers and dialogs)"
    whole = _json(file, shape, None if options else _without_options)
    try:
        data = whole["data"]
        questions, answers, dialogs = [_tidy(text) for text in data["questions"]], data["answers"], data["dialogs"]
        answers = [_tidy(text) for text in answers]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(shape) from error
    if (version := whole.get("version", VERSION)) != VERSION:
        raise UserError(f"{file} is VisDial {version}, but only {VERSION} is read")
    return list(_each(dialogs, lambda raw: _dialog(raw, questions, answers), f"{file}: dialog"))


def read_dense(file: Path) -> dict[tuple[int, int], tuple[float, ...]]:
    """The relevance of every answer option, 0..1, that annotators gave: by image and round (from 1).

    The file is `visdial_1.0_val_dense_annotations.json`, or the train split's sample, whose key is `relevance`.

    Raises:
        UserError: it cannot be read or is something else; a row that breaks the format is named.
    """
    shape = f"{file} is no file of VisDial 1.0's dense annotations (a list of image_id, round_id and gt_relevance)"
    rows = _json(file, shape)
    if not isinstance(rows, list):
        raise UserError(shape)
    found: dict[tuple[int, int], tuple[float, ...]] = {}
    for key, relevance in _each(rows, _relevance, f"{file}: row"):
        if key in found:
            raise UserError(f"{file}: image {key[0]}, round {key[1]} stands there twice")
        found[key] = relevance
    return found


def _json(file: Path, shape: str, hook: Callable[[dict], dict] | None = None):
    try:
        return json.loads(Path(file).read_text("utf-8"), object_hook=hook)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(shape) from error


def _without_options(raw: dict) -> dict:
    raw.pop("answer_options", None)
    return raw


def _each(rows: list, read: Callable[[dict], T], where: str) -> Iterator[T]:
    for number, raw in enumerate(rows):
        try:
            yield read(raw)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{where} {number} breaks the format: {type(error).__name__} {error}") from None


def _dialog(raw: dict, questions: list[str], answers: list[str]) -> Dialog:
    if not raw["dialog"]:
        raise ValueError("without rounds")
    rounds = tuple(_round(turn, questions, answers) for turn in raw["dialog"])
    return Dialog(int(raw["image_id"]), _tidy(raw.get("caption", "")), rounds)


def _round(raw: dict, questions: list[str], answers: list[str]) -> Round:
    answer = answers[raw["answer"]] if raw.get("answer") is not None else None
    if raw.get("answer_options") is None:
        return Round(questions[raw["question"]], answer)
    options, gold = tuple(answers[index] for index in raw["answer_options"]), raw.get("gt_index")
    if gold is not None and (gold < 0 or options[gold] != answer):
        raise ValueError(f"gt_index {gold} is not where the answer stands in answer_options")
    return Round(questions[raw["question"]], answer, options, gold)


def _relevance(raw: dict) -> tuple[tuple[int, int], tuple[float, ...]]:
    given = raw["relevance"] if "relevance" in raw else raw["gt_relevance"]
    relevance = tuple(map(float, given))
    if not relevance or not all(0 <= value <= 1 for value in relevance):  # NaN is not, either
        raise ValueError("relevance must be a list of numbers from 0 to 1")
    return (int(raw["image_id"]), int(raw["round_id"])), relevance


def _tidy(text: str) -> str:
    return " ".join(text.split())


def conversation(dialog: Dialog, turn: int) -> str:
    """What was said before a round (from 1) and its question, unanswered."""
    told = [f"Q: {r.question}\nA: {r.answer}" for r in dialog.rounds[: turn - 1]]
    return "\n".join([*told, f"Q: {dialog.rounds[turn - 1].question}"])


def is_answered(text: str) -> bool:
    """Whether a conversation's last question has its answer behind it: such a text must not be asked about."""
    start = text.rfind("Q:")
    return start >= 0 and bool(re.search(r"\nA:[ \t]*\S", text[start:]))


def guard(prompt: str, dialog: Dialog, turn: int, template: str) -> None:
    """Let a prompt pass that knows no more of the gold answer than it may.

    Short answers ("yes") stand in many a question and earlier answer, so it is counted: the prompt may hold the gold
    answer as often as the template, earlier rounds and the question do, and not once more; and nothing may stand as
    answer behind the last question.

    Args:
        prompt: all of its text.
        template: the same prompt without any conversation in it.

    Raises:
        GoldLeak: it knows more.
    """
    where = f"image {dialog.image_id}, round {turn}"
    if is_answered(prompt):
        raise GoldLeak(f"{where}: the question is answered in the prompt that asks it")
    if not (gold := dialog.rounds[turn - 1].answer):
        return
    earlier = [text or "" for r in dialog.rounds[: turn - 1] for text in (r.question, r.answer)]
    labels = ["Q:"] * turn + ["A:"] * (turn - 1)
    count = lambda text: text.casefold().count(gold.casefold())
    if count(prompt) > sum(map(count, (template, *earlier, *labels, dialog.rounds[turn - 1].question))):
        raise GoldLeak(f"{where}: the gold answer {gold!r} stands in the prompt that asks for it")
