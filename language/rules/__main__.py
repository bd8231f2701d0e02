"""Check `configs/rules.yaml` and write `rules.json`.

python -m language.rules compile
"""

import argparse
import json
import sys
from pathlib import Path

from common.errors import UserError, exit_with
from language.rules.check import COMPILED
from language.rules.schema import load_rules


def compile_rules() -> Path:
    """Check `configs/rules.yaml` and write `rules.json`."""
    part = COMPILED.with_suffix(".part")
    part.write_text(json.dumps(load_rules().model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n", "utf-8")
    return part.replace(COMPILED)


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
