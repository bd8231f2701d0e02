"""Check the corpus, build training pairs from the phrase bank, or tell how varied pairs are.

python -m language.comment.corpus check
python -m language.comment.corpus build --out pairs.jsonl --count 60000 --lang en --style casual
python -m language.comment.corpus stats pairs.jsonl
"""

import argparse
import json
import sys
from pathlib import Path

from configs.errors import exit_with
from language.comment import corpus
from language.comment.pairs import read_pairs
from language.records import write_jsonl


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.comment.corpus", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="lint the phrase bank and the written pairs")
    build = commands.add_parser("build", help="compose pairs")
    build.add_argument("--out", type=Path, required=True)
    build.add_argument("--count", type=int, default=60000)
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--lang", default="ko", choices=corpus.LANGUAGES)
    build.add_argument("--style", default="polite", choices=corpus.STYLES)
    stats = commands.add_parser("stats", help="openings, endings, emoji and repetition")
    stats.add_argument("file", type=Path, nargs="?", help="a file of pairs (default: those written one by one)")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.command == "check":
        problems = corpus.check()
        print(
            "\n".join(problems)
            or f"{sum(len(corpus.written(lang)) for lang in corpus.LANGUAGES)} written pairs and "
            f"{len(corpus.things('ko', 'polite'))} classes, no problems"
        )
        return int(bool(problems))
    if args.command == "stats":
        print(json.dumps(_stats(args.file), ensure_ascii=False, indent=1))
        return 0
    print(write_jsonl(corpus.build(args.count, args.seed, args.lang, args.style), args.out), "pairs")
    return 0


def _stats(file: Path | None) -> dict:
    if file is None:
        return {lang: corpus.stats(list(corpus.written(lang))) for lang in corpus.LANGUAGES}
    return corpus.stats(list(read_pairs(file).values()))


if __name__ == "__main__":
    exit_with(main)
