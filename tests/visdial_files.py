"""Small VisDial files that several tests read."""

import json
from pathlib import Path


def dialog_file(path: Path, dialogs: dict[int, list[tuple]], version: str = "1.0") -> Path:
    """A VisDial 1.0 file of (question, answer) or (question, answer, options); an answer None is one kept secret."""
    rounds = [(*r, None)[:3] for told in dialogs.values() for r in told]
    questions = sorted({question for question, _, _ in rounds})
    answers = sorted({a for _, answer, options in rounds for a in (answer, *(options or ())) if a is not None})
    rows = []
    for image_id, told in dialogs.items():
        turns = []
        for question, answer, options in ((*r, None)[:3] for r in told):
            turn = {"question": questions.index(question)}
            if answer is not None:
                turn["answer"] = answers.index(answer)
            if options:
                turn["answer_options"] = [answers.index(option) for option in options]
                turn |= {} if answer is None else {"gt_index": options.index(answer)}
            turns.append(turn)
        rows.append({"image_id": image_id, "caption": "men on a beach", "dialog": turns})
    data = {"questions": questions, "answers": answers, "dialogs": rows}
    path.write_text(json.dumps({"version": version, "split": "val2018", "data": data}), "utf-8")
    return path


def write_rows(path: Path, rows: list) -> Path:
    """JSON or JSONL, by the name."""
    text = json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, "utf-8")
    return path
