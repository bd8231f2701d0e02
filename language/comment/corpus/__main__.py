"""Check the corpus, draw training pairs from it, or tell how varied pairs are.

python -m language.comment.corpus check
python -m language.comment.corpus build --out pairs.jsonl --count 60000 --lang en --style casual
python -m language.comment.corpus stats pairs.jsonl
"""

import argparse
import json
import sys
from pathlib import Path

from common.errors import exit_with
from language.comment import corpus
from language.comment.frames import frames
from language.comment.pairs import read_pairs
from language.comment.whole import wholes
from language.records import write_pairs


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.comment.corpus", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="lint every line and frame")
    build = commands.add_parser("build", help="draw pairs")
    build.add_argument("--out", type=Path, required=True)
    build.add_argument("--count", type=int, default=60000)
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--lang", default="ko", choices=corpus.LANGUAGES)
    build.add_argument("--style", default="polite", choices=corpus.STYLES)
    stats = commands.add_parser("stats", help="openings, endings, emoji and repetition")
    stats.add_argument("file", type=Path, nargs="?", help="a file of pairs (default: 2,000 drawn in each language)")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.command == "check":
        problems = corpus.check()
        lines = sum(map(count_lines, corpus.LANGUAGES))
        print("\n".join(problems) or f"{lines} lines and frames, no problems")
        return int(bool(problems))
    if args.command == "stats":
        print(json.dumps(_stats(args.file), ensure_ascii=False, indent=1))
        return 0
    print(write_pairs(args.out, corpus.build(args.count, args.seed, args.lang, args.style)), "pairs")
    return 0


def count_lines(lang: str) -> int:
    """How many lines and frames a language has."""
    found = [wholes(lang, style) for style in corpus.STYLES]
    own = sum(row["id"] == label for lines in found for label, rows in lines.items() for row in rows)
    return own + sum(len(rows) for style in corpus.STYLES for rows in frames(lang, style).values())


def _stats(file: Path | None) -> dict:
    if file is None:
        return {lang: corpus.stats(corpus.build(2000, lang=lang)) for lang in corpus.LANGUAGES}
    return corpus.stats(list(read_pairs(file).values()))


if __name__ == "__main__":
    exit_with(main)
