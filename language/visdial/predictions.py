"""Predictions about dialogs and what is true of them, from files, and whether a prediction was told the truth before.

Predictions are a JSON list or JSONL, a row for each question: ranks or scores of all answer options
({"image_id", "round_id", "ranks": [100 numbers, 1 for the best]} as the challenge takes them, or "scores", higher for
better), or an answer ({"image_id", "response" or "answer", "conversation"}, as `datagen.visdial` writes them). Rounds
count from 1 and are called round or round_id; without one, the last of the dialog is meant.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from language.visdial.answers import extract
from language.visdial.dialogs import Dialog, GoldLeak, guard, is_answered, read_dialogs

KINDS = ("scores", "ranks", "response", "answer")  # scores first: ranks do not tell ties


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row; either `text` (all that a model wrote) or `scores` of all options, higher for better."""

    where: str  # "row 3 (image 9, round 2)"
    image_id: int | str
    turn: int | None
    text: str | None = None
    scores: tuple[float, ...] | None = None
    conversation: str = ""
    problem: str = ""  # why it is a failure and no prediction


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of one question; `dialog` is None where only answers are known."""

    answers: tuple[str, ...]
    turn: int | None
    dialog: Dialog | None = None


class Groundtruth:
    """A VisDial 1.0 JSON file, or a JSON list or JSONL of {"image_id", "answer"} with or without a round."""

    def __init__(self, file: Path) -> None:
        """Read it.

        Raises:
            UserError: it cannot be read or is something else; a row that breaks the format is named.
        """
        rows = _load(file)
        self.dialogs: dict[int, Dialog] = {}
        self.answers: dict[int | str, dict[int | None, tuple[str, ...]]] = {}
        if isinstance(rows, dict):
            self.dialogs = {dialog.image_id: dialog for dialog in read_dialogs(file)}
            return
        for number, row in enumerate(rows, 1):
            image_id, turn = _place(row, f"{file}, row {number}")
            given = row.get("answer")
            texts = tuple(given) if isinstance(given, list) else (given,)
            if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
                raise UserError(f"{file}, row {number}: answer must be a text or a list of texts, but got {given!r}")
            if turn in self.answers.setdefault(image_id, {}):
                raise UserError(f"{file}, row {number}: {_name(image_id, turn)} stands there twice")
            self.answers[image_id][turn] = texts

    @property
    def images(self) -> set[int | str]:
        return set(self.dialogs or self.answers)

    def of(self, prediction: Prediction) -> Truth | None:
        """What is true of the question that a prediction answers; None where nothing is known."""
        if dialog := self.dialogs.get(prediction.image_id):
            turn = prediction.turn or len(dialog.rounds)
            gold = dialog.rounds[turn - 1].answer if turn <= len(dialog.rounds) else None
            return Truth((gold,), turn, dialog) if gold else None
        known = self.answers.get(prediction.image_id, {})
        turn = prediction.turn
        if turn is None and len(known) == 1:
            (turn,) = known
        turn = turn if turn in known else None
        return Truth(known[turn], turn) if turn in known else None


def read_predictions(file: Path) -> list[Prediction]:
    """The rows of a file of predictions; those that failed are among them, with their problem.

    A row stands for an earlier one about the same question if that one failed: so a second try is appended.

    Raises:
        UserError: it cannot be read, holds rows of both kinds or a question twice, or a row breaks the format.
    """
    rows = _load(file)
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{file} holds no predictions (a list of rows with image_id and one of {', '.join(KINDS)})")
    found: dict[tuple[int | str, int | None], Prediction] = {}
    for number, row in enumerate(rows, 1):
        image_id, turn = _place(row, f"{file}, row {number}")
        name = _name(image_id, turn)
        if (image_id, turn) in found and not found[image_id, turn].problem:
            raise UserError(f"{file}, row {number}: {name} stands there twice")
        found[image_id, turn] = _prediction(row, f"row {number} ({name})", image_id, turn, file)
    if len({p.scores is None for p in found.values() if not p.problem}) > 1:
        raise UserError(f"{file} holds both ranked options and written answers; put them in two files")
    return list(found.values())


def _prediction(row: dict, where: str, image_id: int | str, turn: int | None, file: Path) -> Prediction:
    place, conversation = (where, image_id, turn), row.get("conversation") or ""
    if not isinstance(conversation, str):
        raise UserError(f"{file}, {where}: conversation must be text")
    if row.get("error") or row.get("status", "ok") not in ("ok", "success"):
        problem = " ".join(str(row.get("error") or row.get("status")).split())[:200]
        return Prediction(*place, conversation=conversation, problem=f"failed: {problem}")
    kind = next((kind for kind in KINDS if row.get(kind) is not None), None)
    if kind is None:
        return Prediction(*place, conversation=conversation, problem=f"has none of {', '.join(KINDS)}")
    if kind in ("response", "answer"):
        if not isinstance(row[kind], str):
            return Prediction(*place, conversation=conversation, problem=f"{kind} is no text")
        return Prediction(*place, row[kind], None, conversation, extract(row[kind], conversation).problem)
    try:
        values = tuple(map(float, row[kind]))
    except (TypeError, ValueError):
        raise UserError(f"{file}, {where}: {kind} must be a list of numbers") from None
    if kind == "ranks":
        if not all(1 <= value <= len(values) for value in values):  # NaN is not, either
            raise UserError(f"{file}, {where}: ranks must be numbers from 1 to {len(values)}")
        values = tuple(-value for value in values)
    return Prediction(*place, None, values, conversation)


def leak(prediction: Prediction, truth: Truth | None) -> str:
    """How the gold answer stands in what the model was asked, "" where it does not.

    Looked at are the conversation and the prompt that came back with the answer. With the whole dialog known, the
    conversation may hold the gold answer only as often as `guard` allows; without it, and in the prompt, whose other
    words are not known, an answer behind the last question is the leak.
    """
    echoed = extract(prediction.text, prediction.conversation).prompt if prediction.text else ""
    for name, text in (("conversation", prediction.conversation), ("echoed prompt", echoed)):
        if is_answered(text):
            return f"the last question of the {name} is answered in it"
    if truth and truth.dialog and prediction.conversation:
        caption = truth.dialog.caption
        try:
            guard(prediction.conversation, truth.dialog, truth.turn, caption * (caption in prediction.conversation))
        except GoldLeak as error:
            return str(error)
    return ""


def _place(row: object, where: str) -> tuple[int | str, int | None]:
    """Image and round of a row."""
    if not isinstance(row, dict):
        raise UserError(f"{where} must be an object, but is a {type(row).__name__}")
    image_id, turn = row.get("image_id"), row.get("round")
    turn = row.get("round_id") if turn is None else turn
    if isinstance(image_id, str) and image_id.isdecimal():
        image_id = int(image_id)
    if type(image_id) is not int and not (isinstance(image_id, str) and image_id):
        raise UserError(f"{where}: image_id must be a number or a name, but got {image_id!r}")
    if turn is not None and (type(turn) is not int or turn < 1):
        raise UserError(f"{where}: the round must be a whole number from 1, but got {turn!r}")
    return image_id, turn


def _name(image_id: int | str, turn: int | None) -> str:
    return f"image {image_id}" + (f", round {turn}" if turn else "")


def _load(file: Path) -> list | dict:
    """A JSON list, a VisDial object, or the rows of JSONL."""
    try:
        text = Path(file).read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    try:
        whole = json.loads(text)
        if isinstance(whole, dict):
            return whole if "data" in whole else [whole]
        if isinstance(whole, list):
            return whole
    except ValueError:
        if text.lstrip().startswith("["):
            raise UserError(f"{file} is no complete JSON list") from None
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError:
            raise UserError(f"{file}, line {number}: no JSON object") from None
    return rows
