"""Check the phrase bank, or build training pairs from it.

python -m language.comment.corpus check
python -m language.comment.corpus build --out pairs.jsonl --count 60000
"""

import argparse
import sys
from pathlib import Path

from configs.errors import exit_with
from language.comment import corpus
from language.records import write_jsonl


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.comment.corpus", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="lint the phrase bank")
    build = commands.add_parser("build", help="compose pairs")
    build.add_argument("--out", type=Path, required=True)
    build.add_argument("--count", type=int, default=60000)
    build.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.command == "check":
        problems = corpus.check()
        print("\n".join(problems) or f"{len(corpus.things())} classes, no problems")
        return int(bool(problems))
    print(write_jsonl(corpus.build(args.count, args.seed), args.out), "pairs")
    return 0


if __name__ == "__main__":
    exit_with(main)
