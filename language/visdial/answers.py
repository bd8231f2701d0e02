"""What a language model answered, out of all that came back: prompt echoed, thoughts in tags, failures told as text."""

import re
from dataclasses import dataclass

TAGS = ("reasoning", "reminder", "think", "thinking")
TAG = re.compile(rf"<\s*(/?)\s*(?:{'|'.join(TAGS)})\b[^<>]*>", re.IGNORECASE)
USER, MODEL = (rf"^\s*(?:<bos>)?\s*(?:<start_of_turn>)?{name}[ \t]*$" for name in ("user", "model"))
ECHO = re.compile(rf"\A(?:{USER}.*?{MODEL})(?:.*?{USER}.*?{MODEL})*", re.DOTALL | re.MULTILINE)  # a chat template
UNANSWERED = re.compile(rf"\A{USER}", re.MULTILINE)
MARKS = re.compile(r"<(?:bos|eos|pad|start_of_turn|end_of_turn)>")  # Gemma's
ERROR = re.compile(r"\s*(?:error|exception)\s*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Extracted:
    """The answer in a text, and what stood around it.

    Attributes:
        answer: "" where there is none.
        problem: why there is no answer; "" where there is one.
        prompt: what was echoed.
        thought: whether it held reasoning tags.
        unclosed: whether a tag was opened and never closed.
    """

    answer: str
    problem: str = ""
    prompt: str = ""
    thought: bool = False
    unclosed: bool = False


def extract(text: str, conversation: str = "") -> Extracted:
    """The answer: the last words outside reasoning tags, after the prompt where that was echoed.

    A closing tag without an opening one ends a thought that the prompt began. Text that tells of an error is none.

    Args:
        conversation: what was asked; a text that begins with it echoes it.
    """
    prompt, asked = "", conversation.strip()
    if echo := ECHO.match(text):
        prompt = echo[0]
    elif UNANSWERED.match(text):
        return Extracted("", "nothing but the prompt came back", text)
    elif asked and text.lstrip().startswith(asked):
        prompt = text[: text.index(asked) + len(asked)]
    outside, thought, unclosed = _outside(MARKS.sub("", text[len(prompt) :]))
    answer, problem = next((piece for piece in reversed(outside) if piece), ""), ""
    if not answer:
        problem = "nothing stands outside the reasoning tags" if thought else "the answer is empty"
    elif ERROR.match(answer):
        answer, problem = "", f"an error, not an answer: {' '.join(answer.split())[:100]}"
    return Extracted(answer, problem, prompt, thought, unclosed)


def _outside(text: str) -> tuple[list[str], bool, bool]:
    """The pieces of text outside tags, whether there are tags, and whether the last one stays open."""
    pieces, inside, end = [], False, 0
    for tag in TAG.finditer(text):
        closes = bool(tag[1])
        if not closes and not inside:
            pieces.append(text[end : tag.start()].strip())
        elif closes and not inside:
            pieces.clear()  # all before was the thought
        inside, end = not closes, tag.end()
    if not inside:
        pieces.append(text[end:].strip())
    return pieces, bool(end), inside
