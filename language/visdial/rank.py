"""Rank the answer options of VisDial's questions by how likely a dialog model finds them.

    python -m language.visdial.rank --model runs/visdial/gemma3_4b --dialogs visdial_1.0_val.json --photos data/coco \\
        --out ranks.json

An option's score is the sum of the log probabilities of its tokens and of the answer's end, as generative decoders
are ranked in VisDial (https://arxiv.org/abs/1611.08669); `--score mean` divides by how many tokens it has, which no
longer favours short answers. Photo and prompt are read once a question and kept for its options. `<out>` is the
challenge's format; `<stem>.scores.jsonl` beside it holds all scores, and a run goes on from there.
"""

import argparse
import copy
import math
import sys
from pathlib import Path
from typing import Literal

from common.errors import UserError, exit_with
from common.files import write_json
from configs.load import Settings
from language.visdial.answer import add_batch_arguments, add_model_arguments, checked_settings, memory_line
from language.visdial.data import Encoder, Example, Unusable, read_examples
from language.visdial.rows import Rows


class RankSettings(Settings):
    """What decides a score."""

    model: str
    precision: str = "auto"
    score: Literal["sum", "mean"] = "sum"


class Ranker:
    """A model that says how likely answers are."""

    def __init__(self, settings: RankSettings) -> None:
        from language.visdial.model import load

        self.settings = settings
        self.model, processor = load(settings.model, settings.precision)
        self.encoder = Encoder(processor)

    def scores(self, example: Example, options: tuple[str, ...], size: int) -> list[float]:
        """The score of each option as an answer to the question, `size` options at the same time.

        Raises:
            UnreadablePhoto, Unusable: the question cannot be asked.
        """
        import torch

        prompt = {k: v.to(self.model.device) for k, v in self.encoder.batch([self.encoder.row(example)]).items()}
        ids = [self.encoder.answer_ids(option) for option in options]
        with torch.inference_mode():
            read = self.model(**prompt, use_cache=True, logits_to_keep=1)
            sums = []
            for start in range(0, len(ids), size):
                sums += self._log_probabilities(read, prompt, ids[start : start + size])
        lengths = map(len, ids) if self.settings.score == "mean" else [1] * len(ids)
        return [total / length for total, length in zip(sums, lengths, strict=True)]

    def _log_probabilities(self, read, prompt: dict, options: list[list[int]]) -> list[float]:
        """The log probability of each option behind a prompt that was read already."""
        import torch

        rows = self.encoder.batch([{"input_ids": torch.tensor(option)} for option in options])
        tokens = rows["input_ids"].to(self.model.device)  # shape: (options, longest)
        mask = rows["attention_mask"].to(self.model.device)
        logits = read.logits[:, -1:].expand(len(options), -1, -1)
        if tokens.shape[1] > 1:
            cache = copy.deepcopy(read.past_key_values)
            cache.batch_repeat_interleave(len(options))
            seen = prompt["attention_mask"].expand(len(options), -1)
            more = self.model(
                input_ids=tokens[:, :-1],
                attention_mask=torch.cat([seen, mask[:, :-1]], 1),
                past_key_values=cache,
            )
            logits = torch.cat([logits, more.logits], 1)  # shape: (options, longest, vocabulary)
        logits = logits.float()
        chosen = logits.gather(2, tokens[..., None])[..., 0] - logits.logsumexp(2)
        return (chosen * mask).sum(1).tolist()


def ranks(scores: list[float]) -> list[int]:
    """Each option's place, 1 for the highest score; of equal ones the earlier is before, as a permutation must have it.

    Metrics that know ties read the scores.
    """
    order = sorted(range(len(scores)), key=lambda n: -scores[n])
    places = [0] * len(scores)
    for place, option in enumerate(order, 1):
        places[option] = place
    return places


def rank_file(
    settings: RankSettings, examples: list[Example], skipped: list[dict], out: Path, size: int, retry_failed: bool
) -> Rows:
    """Score what has no scores yet and write the ranks of all that have.

    Raises:
        UserError: the scores there were made with other settings, or the model cannot be used.
    """
    from rich.console import Console
    from rich.progress import track

    from language.caption.photos import UnreadablePhoto

    rows = Rows(out.with_suffix(".scores.jsonl"), settings)
    rows.add_skipped(skipped)
    todo = rows.open(examples, retry_failed)
    ranker = Ranker(settings) if todo else None
    console = Console(stderr=True)
    with memory_line(f"--batch-size (now {size})"):
        for example in track(todo, "", console=console, disable=not console.is_terminal):
            where = {"image_id": example.image_id, "round_id": example.turn}
            try:
                scores = ranker.scores(example, example.options, size)
                good = all(map(math.isfinite, scores))
                rows.add({**where, **({"scores": scores} if good else {"error": "a score is no finite number"})})
            except (UnreadablePhoto, Unusable) as error:
                rows.add({**where, "error": str(error)})
    done = [rows.results[key] for key in sorted(rows.results)]
    write_json(out, [{**_where(row), "ranks": ranks(row["scores"])} for row in done])
    return rows


def _where(row: dict) -> dict:
    return {"image_id": row["image_id"], "round_id": row["round_id"]}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.visdial.rank", description=__doc__.split("\n")[0])
    add_model_arguments(parser)
    parser.add_argument("--dialogs", required=True, type=Path, metavar="FILE", help="VisDial 1.0 JSON with options")
    parser.add_argument("--photos", required=True, type=Path, metavar="FOLDER", help="where its photos lie")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.json", help="ranks in the challenge's format")
    parser.add_argument("--score", choices=["sum", "mean"], default="sum", help="of the tokens' log probabilities")
    add_batch_arguments(parser, 25)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    settings = checked_settings(RankSettings, args)
    if args.dialogs.suffix == ".jsonl":
        raise UserError(f"{args.dialogs} has no answer options; take a VisDial 1.0 JSON")
    examples, skipped = read_examples(args.dialogs, args.photos, "all", options=True)
    examples = [example for example in examples if example.options][: args.limit]
    if not examples:
        raise UserError(f"{args.dialogs} holds no question with answer options whose photo lies in {args.photos}")
    rows = rank_file(settings, examples, skipped, args.out, args.batch_size, args.retry_failed)
    print(rows.summary())
    return int(bool(rows.errors))


if __name__ == "__main__":
    exit_with(main)
