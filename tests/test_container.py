"""The container's recipe: pinned, no root, no secrets, offline, nothing to write on."""

import re
import shlex
from fnmatch import fnmatch

import pytest
import yaml

from pipeline.serve import parser
from tests.conftest import ROOT


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text("utf-8"))
    lines = (line.strip() for line in text.splitlines())
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def of(name: str) -> list[str]:
    return [arguments for found, arguments in instructions() if found == name]


def test_every_instruction_is_known_and_upper_case():
    known = {"FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT"}
    assert {name for name, _ in instructions()} == known


def test_the_base_is_slim_and_pinned():
    assert of("FROM") and all(re.match(r"python:3\.\d+-slim-\w+( AS \w+)?$", base) for base in of("FROM"))


def test_it_does_not_run_as_root():
    assert of("USER") == ["10001:10001"]
    order = [name for name, _ in instructions()]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name == "RUN")


def test_it_installs_exact_versions_and_keeps_no_cache():
    (install,) = [run for run in of("RUN") if "pip install" in run]
    assert "--constraint /src/requirements.txt" in install and "PIP_NO_CACHE_DIR=1" in " ".join(of("ENV"))
    assert '"/src[app,heic]"' in install  # neither training nor tests


def test_what_is_copied_exists_and_is_not_ignored():
    sources = [word for line in of("COPY") if "--from" not in line for word in shlex.split(line)[:-1]]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sources and all((ROOT / name).exists() and name in allowed for name in sources)


def test_it_starts_with_options_that_there_are():
    command = yaml.safe_load(of("ENTRYPOINT")[0])
    assert command[:3] == ["python", "-m", "pipeline.serve"]
    args = parser().parse_args(command[3:])
    assert (
        args.host == "0.0.0.0" and of("EXPOSE") == [str(args.port)] and f":{args.port}/health" in of("HEALTHCHECK")[0]
    )


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", ".dockerignore"])
def test_there_are_no_secrets(name):
    text = (ROOT / name).read_text("utf-8")
    assert not re.search(r"(?i)(key|token|password|secret)\w*\s*[:=]\s*['\"]?[\w-]{6,}", text)


def test_compose_gives_no_more_than_is_needed():
    (service,) = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"].values()
    assert (
        service["read_only"] and service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
    )
    assert all(port.startswith("127.0.0.1:") for port in service["ports"]) and "privileged" not in service
    assert all(mount.startswith("/tmp") for mount in service["tmpfs"]) and "volumes" not in service


def test_private_files_stay_outside():
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in rules and not any(
        fnmatch(name, rule[1:]) for name in (".git", ".env", "runs") for rule in rules if rule[:1] == "!"
    )
