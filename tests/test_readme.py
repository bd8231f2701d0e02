"""What the README says is there is there."""

import re

import pytest

from language.records import ElementList
from language.rules import violations
from tests.conftest import ROOT
from tests.helpers import run_module

README = (ROOT / "README.md").read_text("utf-8")
MODULES = sorted(set(re.findall(r"python -m ((?:detection|language|pipeline|datagen)[\w.]*)", README)))


def test_there_are_commands():
    assert len(MODULES) >= 5


@pytest.mark.parametrize("module", MODULES)
def test_every_command_exists(module):
    done = run_module(module, "--help")
    assert done.status == 0 and "usage" in done.out.lower()


def test_every_path_exists():
    paths = re.findall(r"`((?:configs|detection|language|datagen|pipeline|tests|docs|notebooks)/[\w./-]*)`", README)
    assert len(paths) > 15
    assert [p for p in paths if not (ROOT / p).exists()] == []


def test_the_printed_output_is_real():
    """The README's example is what the command prints; the wording may differ on another processor."""
    block = re.search(r"```\n\$ python -m pipeline\.run (\S+)\n(.*?)```", README, re.S)
    done = run_module("pipeline.run", block[1])
    name, elements, comment = block[2].strip().splitlines()
    assert done.out.splitlines()[:2] == [name, elements]
    assert violations(comment.strip(), ElementList.parse(elements.strip(" []"))) == []
