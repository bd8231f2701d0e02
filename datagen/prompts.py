"""Prompt templates: versioned YAML files in `configs/datagen/prompts/`, filled by name and linted by the rules.

Placeholders are `$name`, so that JSON in a template needs no escapes. A template whose own example breaks what it asks
for teaches the model to break it, so such a template refuses to run.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from string import Template

from pydantic import PositiveInt

from common.errors import UserError
from configs.load import Settings, load_settings
from language.rules import rules


class Example(Settings):
    """A question and its good answer, shown to the model as an exchange before the real question."""

    ask: dict[str, str]  # placeholders of the user prompt
    answer: dict  # the reply's JSON


class Prompt(Settings):
    """A template: what the system says, what the user asks, examples, and how a model is told of its mistakes."""

    version: PositiveInt
    system: str
    user: str
    reask: str  # $problems
    words: dict[str, str] = {}  # a rule's name -> how its breach is told
    examples: list[Example] = []

    def messages(self, ask: dict[str, str], system: dict[str, str] | None = None) -> tuple[dict, ...]:
        """System, examples and question.

        Raises:
            UserError: the template names a placeholder that nothing fills.
        """
        turns = [{"role": "system", "content": _fill(self.system, system or {})}]
        for example in self.examples:
            turns.append({"role": "user", "content": _fill(self.user, {**ask, **example.ask})})
            turns.append({"role": "assistant", "content": json.dumps(example.answer, ensure_ascii=False)})
        return (*turns, {"role": "user", "content": _fill(self.user, ask)})

    def remark(self, problems: list[str]) -> str:
        """What the model is told of its mistakes."""
        return _fill(self.reask, {"problems": "\n".join(f"- {p}" for p in problems)})

    def told(self, rule: str) -> str:
        """A broken rule in words."""
        return self.words.get(rule, rule)


def load_prompt(file: Path, check: Callable[[Prompt, Example], list[str]]) -> Prompt:
    """Read a template and lint its examples.

    Raises:
        UserError: it cannot be read, or an example breaks what the template asks for.
    """
    prompt = load_settings(file, Prompt)
    for number, example in enumerate(prompt.examples, 1):
        if problems := check(prompt, example):
            raise UserError(f"{file}: example {number} breaks its own rules: {'; '.join(problems)}")
    return prompt


def rules_version(prompt: Prompt) -> str:
    """What replies are held to, in twelve hex digits: rule file and template."""
    text = json.dumps(rules(), sort_keys=True, ensure_ascii=False) + prompt.fingerprint()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def object_of_texts(title: str, longest: dict[str, int]) -> dict:
    """The JSON schema of an object of texts, each with its most characters."""
    texts = {name: {"type": "string", "minLength": 1, "maxLength": most} for name, most in longest.items()}
    shape = {"title": title, "type": "object", "properties": texts}
    return {**shape, "required": list(texts), "additionalProperties": False}


def _fill(template: str, values: dict[str, str]) -> str:
    try:
        return Template(template).substitute(values).strip()
    except KeyError as error:
        raise UserError(
            f"the prompt names {error}, but only {', '.join(values) or 'nothing'} can stand there"
        ) from None
    except ValueError as error:
        raise UserError(f"the prompt is no template: {error} (write $$ for a dollar sign)") from None
