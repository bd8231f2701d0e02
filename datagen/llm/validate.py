"""From a raw reply to checked data, or to what is wrong with it in words."""

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


def find_object(text: str) -> dict | None:
    """The first complete JSON object in a text, as models like to put prose or fences around it; None if none is."""
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = json.JSONDecoder().raw_decode(text, start)
            return found if isinstance(found, dict) else None
        except ValueError:
            start = text.find("{", start + 1)
    return None


def parse(text: str, shape: type[M]) -> tuple[M | None, list[str]]:
    """A reply as `shape`, or the problems that keep it from being one."""
    found = find_object(text)
    if found is None:
        return None, ["the reply is not one complete JSON object"]
    try:
        return shape(**found), []
    except (ValidationError, TypeError) as error:
        if not isinstance(error, ValidationError):
            return None, ["the reply has keys that are no names"]
        return None, [_words(e) for e in error.errors()]


def _words(error: dict) -> str:
    where = ".".join(map(str, error["loc"])) or "reply"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def closed_schema(shape: type[BaseModel]) -> dict:
    """The JSON schema of a model without references, every object closed: what all providers take."""
    schema = shape.model_json_schema()
    return _inline(schema, schema.pop("$defs", {}))


def _inline(node, definitions: dict):
    if isinstance(node, list):
        return [_inline(part, definitions) for part in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inline(definitions[node["$ref"].rpartition("/")[2]], definitions)
    node = {key: _inline(value, definitions) for key, value in node.items()}
    if node.get("type") == "object":
        node |= {"additionalProperties": False, "required": list(node.get("properties", {}))}
    return node
