"""Check `configs/rules.yaml` and write `rules.json`.

python -m language.rules compile
"""

import argparse
import sys
from pathlib import Path

from common.errors import UserError, exit_with
from common.files import write_json
from language.rules.check import COMPILED
from language.rules.schema import load_rules


def compile_rules() -> Path:
    """Check `configs/rules.yaml` and write `rules.json`."""
    return write_json(COMPILED, load_rules().model_dump(mode="json"))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.rules", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["compile"])
    parser.parse_args(sys.argv[1:] if argv is None else argv)
    try:
        print(compile_rules())
    except OSError as error:
        raise UserError(f"cannot write {COMPILED}: {error.strerror}") from error
    return 0


if __name__ == "__main__":
    exit_with(main)
