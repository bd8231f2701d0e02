"""What is going on, and where: reviewed rules over everything that was seen.

    python -m pipeline.moments compile

The rules stand in `configs/moments.yaml`, which tells how they are written; the command checks that file and writes
`moments.json`, which this module reads, so that running needs neither YAML nor pydantic.
"""

import argparse
import json
import re
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np

from common.errors import UserError, exit_with
from common.files import write_json
from detection.labels import KNOWN_IDS, MOMENT_IDS, OBJECT_IDS, SCENE_IDS, kind_of
from detection.records import Detection
from pipeline.facts import Facts

SOURCE = Path(__file__).parents[1] / "configs" / "moments.yaml"
COMPILED = Path(__file__).with_name("moments.json")
KNOWN = (*MOMENT_IDS, *SCENE_IDS)
NUMBERS = ("people", "faces", "smiles", "children", "large_people", "near_people", "face_share")
PARTS = {"one_of": list, "hides": dict, "after": dict, "strained": list}  # of the file, beside the rules
SURE = 0.7  # a condition that makes a moment alone
LIKELY = 0.3
CONDITION = re.compile(r"(?P<not>no )?(?P<how>with |many )?(?P<name>.+?)(?: (?P<least>\d+(?:\.\d+)?))?")


@lru_cache
def rules() -> dict[str, list[list[dict]]]:
    """Moment or scene -> its lines, each a list of conditions."""
    return json.loads(COMPILED.read_text("utf-8"))["rules"]


@lru_cache
def alike() -> dict[str, frozenset[str]]:
    """Moment or scene -> those of which only one can stand beside it."""
    groups = json.loads(COMPILED.read_text("utf-8"))["one_of"]
    return {
        label: frozenset(other for g in groups if label in g for other in g) - {label} for g in groups for label in g
    }


@lru_cache
def hidden_by() -> dict[str, frozenset[str]]:
    """Family of things -> the scenes where its kinds are not to be believed."""
    hides = json.loads(COMPILED.read_text("utf-8"))["hides"]
    return {family: frozenset(scenes) for family, scenes in hides.items()}


@lru_cache
def said_after() -> dict[str, frozenset[str]]:
    """Family of things, or a moment -> the moments and scenes that are said after it or its kinds."""
    after = json.loads(COMPILED.read_text("utf-8"))["after"]
    return {family: frozenset(labels) for family, labels in after.items()}


@lru_cache
def strained() -> frozenset[str]:
    """Moments in which a face shows effort or play, not how somebody feels."""
    return frozenset(json.loads(COMPILED.read_text("utf-8"))["strained"])


def find_moments(facts: Facts) -> list[Detection]:
    """The moments and scenes whose rules hold, surest first; of those that look alike the surest."""
    standing: dict[str, Detection] = {}
    for d in holding(facts):
        if not alike().get(d.label, frozenset()) & standing.keys():
            standing[d.label] = d
    return list(standing.values())


def holding(facts: Facts) -> list[Detection]:
    """All whose rules hold, surest first."""
    found = []
    for label, lines in rules().items():
        held = [line for line in lines if all(_holds(c, label, facts) for c in line)]
        if held:
            found.append(Detection(label, kind_of(label), max(_sureness(line, label, facts) for line in held), None))
    return sorted(found, key=lambda d: -d.score)


def boxes_of(moment: str, facts: Facts) -> tuple[tuple[float, ...], ...]:
    """Boxes of the things and people that a moment was told by."""
    lines = [line for line in rules()[moment] if all(_holds(c, moment, facts) for c in line)]
    names = dict.fromkeys(c["name"] for line in lines for c in line if not c["not"])
    told = [facts.boxes[name] for name in names if name in facts.boxes]
    if any(name in NUMBERS for name in names):
        told.append(facts.people)
    boxes = np.concatenate(told) if told else np.zeros((0, 4))
    return tuple(dict.fromkeys(tuple(float(v) for v in box) for box in boxes))


def _value(condition: dict, moment: str, facts: Facts) -> float:
    """What a condition's least value is compared with."""
    name = condition["name"]
    if name in NUMBERS:
        return facts.numbers[name]
    if name == "itself":
        if condition["least"] is None:
            return facts.told.get(moment, 0.0) if moment in facts.sure else 0.0
        return facts.told.get(moment, 0.0)
    if condition["how"] == "many":
        return len(facts.boxes.get(name, ()))
    if condition["how"] == "with" and not facts.with_person(name):
        return 0.0
    return facts.scores.get(name, 0.0)


def _holds(condition: dict, moment: str, facts: Facts) -> bool:
    value, least = _value(condition, moment, facts), condition["least"]
    return (value >= least if least is not None else value > 0) != condition["not"]


def _sureness(line: list[dict], moment: str, facts: Facts) -> float:
    """How sure a line is: a scene as sure as the look at the whole picture is of it, where that is likely; else the
    mean score of what the line rests on, and what only counts is `SURE`."""
    if kind_of(moment) == "scene" and facts.told.get(moment, 0.0) >= LIKELY:
        return facts.told[moment]
    values = [
        min(1.0, _value(c, moment, facts))
        for c in line
        if not c["not"] and c["how"] != "many" and c["name"] not in NUMBERS
    ]
    return float(np.mean(values)) if values else SURE


def parse(text: str) -> dict:
    """One condition.

    Raises:
        ValueError: it names nothing that is known.
    """
    match = CONDITION.fullmatch(text.strip())
    name, how = match["name"], (match["how"] or "").strip() or None
    least = float(match["least"]) if match["least"] else None
    if name not in (*NUMBERS, "itself") and name not in KNOWN_IDS:
        raise ValueError(f"{text!r}: {name!r} is no id, nor one of {', '.join(NUMBERS)}, itself")
    if least is None and name != "itself":
        raise ValueError(f"{text!r} needs a number")
    return {"not": bool(match["not"]), "how": how, "name": name, "least": least}


def lint(raw: dict[str, list]) -> tuple[dict, list[str]]:
    """What is compiled, and what is wrong with them: unknown names, a line that rests on one weak answer alone."""
    raw = dict(raw)
    parsed, problems = {}, [f"{moment}: has no rule" for moment in MOMENT_IDS if moment not in raw]
    problems += [f"{moment}: is no moment or scene" for moment in raw if moment not in {*KNOWN, *PARTS}]
    groups, hides, after, tense = (raw.pop(part, kind()) for part, kind in PARTS.items())
    problems += [f"one_of: {name!r} is no moment or scene" for g in groups for name in g if name not in KNOWN]
    problems += [f"strained: {name!r} is no moment" for name in tense if name not in MOMENT_IDS]
    problems += [f"hides: {name!r} is no scene" for g in hides.values() for name in g if name not in SCENE_IDS]
    problems += [f"after: {name!r} is no moment or scene" for g in after.values() for name in g if name not in KNOWN]
    problems += [f"hides: {name!r} is no thing" for name in hides if name not in OBJECT_IDS]
    problems += [f"after: {name!r} is no thing or moment" for name in after if name not in {*OBJECT_IDS, *MOMENT_IDS}]
    raw = {**raw, **{scene: ["itself"] for scene in SCENE_IDS if scene not in raw}}
    for moment, lines in raw.items():
        parsed[moment] = []
        for line in lines:
            try:
                conditions = [parse(text) for text in re.split(r",(?![^(]*\))", line)]
            except ValueError as error:
                problems.append(f"{moment}: {error}")
                continue
            for_it = [c for c in conditions if not c["not"]]
            sure = any(c["least"] is None or c["name"] not in NUMBERS and c["least"] >= SURE for c in for_it)
            if len(for_it) < 2 and not sure:
                problems.append(f"{moment}: {line!r} rests on one weak answer alone")
            parsed[moment].append(conditions)
    return {"rules": parsed, "one_of": groups, "hides": hides, "after": after, "strained": tense}, problems


def compile_rules() -> Path:
    """Check `configs/moments.yaml` and write `moments.json`.

    Raises:
        UserError: with every problem of the file.
    """
    import yaml

    try:
        raw = yaml.safe_load(SOURCE.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {SOURCE.name}: {' '.join(str(error).split())}") from None
    parsed, problems = lint(raw)
    if problems:
        raise UserError(f"{SOURCE.name}: " + "; ".join(problems))
    return write_json(COMPILED, parsed, indent=None)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.moments", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["compile"])
    parser.parse_args(sys.argv[1:] if argv is None else argv)
    print(compile_rules())
    return 0


if __name__ == "__main__":
    exit_with(main)
