"""Dialogs of VisDial 1.0, how a conversation is written, and the guard that keeps the gold answer out of prompts."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError


class GoldLeak(UserError):
    """The answer that is asked for stands in the prompt that asks for it."""


@dataclass(frozen=True, slots=True)
class Round:
    """A question and what the person who saw the photo answered; None where that is kept secret (the test split)."""

    question: str
    answer: str | None


@dataclass(frozen=True, slots=True)
class Dialog:
    """All rounds about one COCO photo, and its caption."""

    image_id: int
    caption: str
    rounds: tuple[Round, ...]


def read_dialogs(file: Path) -> list[Dialog]:
    """The dialogs of a VisDial 1.0 JSON file.

    Raises:
        UserError: it cannot be read or is something else; a dialog that breaks the format is named.
    """
    try:
        data = json.loads(Path(file).read_text("utf-8"))["data"]
        questions, answers, dialogs = data["questions"], data["answers"], data["dialogs"]
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no VisDial 1.0 file (data with questions, answers and dialogs)") from error
    found = []
    for number, raw in enumerate(dialogs):
        try:
            found.append(_dialog(raw, questions, answers))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{file}: dialog {number} breaks the format: {type(error).__name__} {error}") from None
    return found


def _dialog(raw: dict, questions: list[str], answers: list[str]) -> Dialog:
    if not raw["dialog"]:
        raise ValueError("without rounds")
    rounds = []
    for turn in raw["dialog"]:
        answer = _tidy(answers[turn["answer"]]) if turn.get("answer") is not None else None
        rounds.append(Round(_tidy(questions[turn["question"]]), answer))
    return Dialog(int(raw["image_id"]), _tidy(raw.get("caption", "")), tuple(rounds))


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
