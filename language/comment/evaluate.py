"""Measure a writer on pairs that it never saw.

    python -m language.comment.evaluate runs/mine --data pairs.json --keys test_keys.txt --decode greedy beam4 consensus
    python -m language.comment.evaluate t5 --data pairs.jsonl

MODEL is a run of `language.comment.train`, or a writer as `pipeline.run --writer` takes it. Results stand in
`<run>/evaluations/<data>-<decode>/`: evaluation.json (figures with everything that explains them) and predictions.json.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import yaml

from common.errors import UserError, exit_with
from common.files import write_json
from language import metrics
from language.comment import frames
from language.comment.card import BANK, POCKET, WRITERS
from language.comment.data import token_rows
from language.comment.generate import DecodeSettings, generate, load_decode
from language.comment.likelihood import nats
from language.comment.pairs import element_set, leaks, read_keys, read_pairs
from language.comment.writer import CommentWriter
from language.records import Pair
from language.render import comment_of


@dataclass
class Run:
    """A finished run of `language.comment.train`, loaded."""

    folder: Path
    settings: dict
    model: object
    tokenizer: object

    @classmethod
    def load(cls, folder: Path) -> "Run":
        """Read the best checkpoint.

        Raises:
            UserError: the folder holds no finished run, or its rendering or tokenizer is not this code's.
        """
        from transformers import AutoTokenizer, GPT2LMHeadModel, T5ForConditionalGeneration

        from language.comment.card import check_fingerprints, fingerprints

        if missing := [name for name in ("settings.yaml", "best/config.json") if not (folder / name).is_file()]:
            raise UserError(f"{folder} is no finished run of language.comment.train ({', '.join(missing)} missing)")
        settings = yaml.safe_load((folder / "settings.yaml").read_text("utf-8"))
        kind = {"t5": T5ForConditionalGeneration, "gpt2": GPT2LMHeadModel}[settings["architecture"]]
        model, tokenizer = kind.from_pretrained(folder / "best"), AutoTokenizer.from_pretrained(folder / "best")
        now = fingerprints(tokenizer.backend_tokenizer, settings["template"])
        check_fingerprints(getattr(model.config, "fingerprints", {}), now, folder)
        return cls(folder, settings, model, tokenizer)

    def rows(self, pairs: list[Pair]) -> list[tuple[list[int], list[int]]]:
        """(source, target) token ids."""
        return token_rows(pairs, self.tokenizer, self.settings["architecture"], self.settings["template"])

    def write(self, pairs: list[Pair], decode: DecodeSettings) -> list[str]:
        """A comment for each pair's list; the same list is asked once, unless answers are drawn."""
        sources = [tuple(source) for source, _ in self.rows(pairs)]
        asked = sources if decode.method == "sample" else list(dict.fromkeys(sources))
        texts = generate(self.model, self.tokenizer, [list(source) for source in asked], decode)
        answers = texts if decode.method == "sample" else [dict(zip(asked, texts, strict=True))[s] for s in sources]
        named = zip(answers, pairs, strict=True)
        return [comment_of(text, p.lang, p.style, self.settings["template"]) for text, p in named]

    def nats(self, pairs: list[Pair]) -> list[float]:
        """Negative log likelihood of each pair's target, end included, in nats."""
        return nats(self.model, self.rows(pairs), self.tokenizer.pad_token_id)

    def about(self, pairs: list[Pair]) -> dict:
        """What the figures of this run need beside them."""
        weights = self.folder / "best/model.safetensors"
        data = json.loads((self.folder / "data.json").read_text("utf-8"))
        seen = list(read_pairs(self.folder / "train.jsonl").values())
        bits = metrics.load("bits_per_character").compute(
            predictions=self.nats(pairs), references=[p.comment for p in pairs]
        )
        return {
            "architecture": self.settings["architecture"],
            "template": self.settings["template"],
            "start": self.settings["start"] and "/".join(Path(self.settings["start"]).parts[-2:]),
            "parameters": data["parameters"],
            "bytes": weights.stat().st_size,
            "train_pairs": data["train_pairs"],
            "split": data["split"],
            "split_hash": data["split_hash"],
            "seed": data["seed"],
            "leaks": leaks(seen, pairs),
            **bits,
        }


def score(pairs: list[Pair], predictions: list[str]) -> dict:
    """All metrics of predictions, with 95 % bootstrap intervals (`…_interval`).

    `…_multi` counts every comment of the same element set as a reference; the rest has one reference a pair.
    """
    together = defaultdict(list)
    for pair in pairs:
        together[element_set(pair)].append(pair.comment)
    single = [[pair.comment] for pair in pairs]
    multi = [list(dict.fromkeys(together[element_set(pair)])) for pair in pairs]
    found: dict = {}
    for name in ("bleu", "chrf", "rouge"):
        metric = metrics.load(name)
        found |= metric.compute(predictions=predictions, references=single, bootstrap=1000)
        several = metric.compute(predictions=predictions, references=multi)
        found |= {f"{key}_multi": value for key, value in several.items() if isinstance(value, float)}
    found |= metrics.load("original").compute(predictions=predictions, references=single)
    found |= metrics.load("diversity").compute(predictions=predictions)
    lists, lang = [pair.elements for pair in pairs], pairs[0].lang
    grounding = metrics.load("grounding")
    return found | grounding.compute(
        predictions=predictions, references=lists, lang=lang, style=pairs[0].style, bootstrap=1000
    )


def evaluate_run(folder: Path, data: Path, keys: Path | None, decodes: list[str]) -> list[Path]:
    """Evaluate a run with each decode preset; returns the written evaluation.json files."""
    presets = [load_decode(name) for name in decodes]
    pairs = chosen_pairs(data, keys)
    run = Run.load(folder)
    about = run.about(pairs)
    print(f"leaks: {about['leaks']}", file=sys.stderr)
    files = []
    for name, decode in presets:
        start = time.perf_counter()
        predictions = run.write(pairs, decode)
        ms = 1000 * (time.perf_counter() - start) / len(pairs)
        out = folder / "evaluations" / f"{(keys or data).stem}-{name}"
        settings = {"decode": name, "decode_settings": decode.model_dump(), "ms_per_comment": round(ms, 1)}
        files.append(_save(out, folder.name, data, keys, pairs, predictions, {**about, **settings}))
    return files


def evaluate_writer(model: str, data: Path, keys: Path | None, out: Path) -> Path:
    """Evaluate a writer as it serves people: its own sampling and ranking."""
    pairs = chosen_pairs(data, keys)
    writer = CommentWriter(model, pairs[0].lang, pairs[0].style)
    start = time.perf_counter()
    written = [writer.write(pair.elements, seed=seed)[0] for seed, pair in enumerate(pairs)]
    ms = 1000 * (time.perf_counter() - start) / len(pairs)
    folder, suffix = (frames.FOLDER, ".jsonl") if model == BANK else (POCKET.get(model) or Path(model), "model.bin")
    about = {
        **({} if model == BANK else {"architecture": writer.architecture, "template": writer.template}),
        "bytes": sum(file.stat().st_size for file in folder.iterdir() if file.name.endswith(suffix)),
        "decode": "writer",
        "ms_per_comment": round(ms, 1),
        "by_hand_share": sum(c.source != "model" for c in written) / len(written),
    }
    name = Path(model).name
    return _save(
        out / f"{(keys or data).stem}-writer-{name}", name, data, keys, pairs, [c.text for c in written], about
    )


def chosen_pairs(data: Path, keys: Path | None) -> list[Pair]:
    """The pairs of a file, those of the listed keys where a list is given; of one language and style.

    Raises:
        UserError: unknown keys, no pairs, or several languages or styles at once.
    """
    pairs = read_pairs(data)
    wanted = read_keys(keys) if keys else list(pairs)
    if unknown := [key for key in wanted if key not in pairs]:
        raise UserError(f"{keys}: keys that {data} does not have: {', '.join(unknown[:5])}")
    chosen = [pairs[key] for key in wanted]
    voices = {(p.lang, p.style) for p in chosen}
    if len(voices) != 1:
        raise UserError(f"{data} must hold pairs of one language and style to be measured, but holds {sorted(voices)}")
    return chosen


def _save(out: Path, name: str, data: Path, keys: Path | None, pairs, predictions: list[str], about: dict) -> Path:
    figures = score(pairs, predictions)
    content = {"name": name, "data": data.name, "keys": keys and keys.name, "rows": len(pairs), **about}
    listed = [
        {"elements": p.elements, "reference": p.comment, "prediction": text}
        for p, text in zip(pairs, predictions, strict=True)
    ]
    for file, value in (("predictions.json", listed), ("evaluation.json", {**content, "metrics": figures})):
        write_json(out / file, value)
    return out / "evaluation.json"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.comment.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("model", metavar="MODEL", help="a run's folder, t5, gpt2 or an exported writer")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help="pairs, in any format that train reads"
    )
    parser.add_argument("--keys", type=Path, metavar="FILE", help="keys of the pairs to use, one a line (default: all)")
    parser.add_argument("--decode", nargs="+", default=["greedy"], metavar="NAME", help="presets of configs/decode")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluations"), help="for writers; runs keep their own")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.model in WRITERS or (Path(args.model) / "writer.json").exists():
        files = [evaluate_writer(args.model, args.data, args.keys, args.out)]
    else:
        files = evaluate_run(Path(args.model), args.data, args.keys, args.decode)
    for file in files:
        figures = json.loads(file.read_text("utf-8"))["metrics"]
        shown = ("bleu_char", "bleu_word", "chrf", "rougeL", "original_bleu_4", "original_meteor", "violation_rate")
        print(file, json.dumps({key: round(figures[key], 4) for key in shown}))
    return 0


if __name__ == "__main__":
    exit_with(main)
