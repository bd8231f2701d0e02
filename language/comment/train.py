"""Train a comment writer: a T5 or a GPT-2, from random weights or from a published model.

    python -m language.comment.train --config configs/comment/t5_pocket.yaml
    python -m language.comment.train --config configs/comment/t5_base.yaml pairs=pairs.csv run=runs/mine
    accelerate launch --multi_gpu --num_processes 2 -m language.comment.train --config …

Pairs come from a file (`pairs=FILE`), or are drawn from our own corpus of whole comments. Of a file whole element sets
are held out unless `split: random` asks for the original's way; of our corpus lines and frames. The best checkpoint by
held-out loss (`keep: last`: the last one) is exported for CTranslate2 (int8), which
`python -m pipeline.run --writer DIR` writes with. A run that was interrupted goes on where it stopped.
"""

import json
from itertools import chain
from math import log
from pathlib import Path
from typing import Literal

from pydantic import Field

from common.errors import UserError, exit_with
from common.files import write_json
from configs.load import settings_command
from language.comment import corpus
from language.comment.card import fingerprints, sort_of
from language.comment.data import draw_split, encode, load_pairs, token_rows
from language.comment.fluency import save_sequences
from language.comment.likelihood import nats
from language.comment.models import export, load_tokenizer, new_model
from language.comment.pairs import Split, leaks, split_pairs
from language.records import ElementList, Pair, write_pairs
from language.render import PLAN_ENDS
from language.tokenizer import train_tokenizer
from language.training import (
    LearningSettings,
    callbacks,
    last_checkpoint,
    memory_advice,
    training_arguments,
)


class WriterSettings(LearningSettings):
    """Settings of one run."""

    architecture: Literal["t5", "gpt2"] = "t5"
    template: Literal["planned", "plain", "original"] = "planned"  # see language/render.py
    # what it learns from
    pairs: Path | None = None  # a file of pairs; our own corpus where absent
    exclude: Path | None = None  # a list of keys in `pairs` that are never read: a test set
    drawn: dict[str, dict[str, int]] = {"ko": {"polite": 60000}}  # pairs to draw from it, by language and style
    split: Literal["group", "random"] = "group"
    held_out_share: float = Field(0.01, gt=0, lt=1)
    max_tokens: int = Field(192, ge=16)
    # the model
    start: str | None = None  # weights to go on from: a folder in transformers' format or a hub name
    vocab_size: int = 7000  # these sizes are for models from random weights
    d_model: int = 256
    d_ff: int = 1024
    num_heads: int = 4
    encoder_layers: int = 4  # of T5
    decoder_layers: int = 4
    dropout: float | None = Field(0.1, ge=0, lt=1)  # null: as published with `start`
    # how it learns, where it differs from other trainers
    optimizer: Literal["adafactor", "adamw"] = "adafactor"
    lr: float = Field(2.5e-2, gt=0)  # Adafactor: relative to the size of each weight matrix
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int = 300
    by_length: bool = True  # batches of like lengths
    eval_steps: int | None = 500
    export: Path | None = None  # folder for the CTranslate2 model


def train(settings: WriterSettings) -> Path:
    """Run one training; returns the folder of the best checkpoint in transformers' format."""
    from transformers import DataCollatorForSeq2Seq, Trainer, set_seed

    split = _split(settings)
    arguments = training_arguments(
        settings,
        train_sampling_strategy="group_by_length" if settings.by_length else "random",
        average_tokens_across_devices=False,  # it doubles T5's loss on two processes
    )
    with arguments.main_process_first(local=False):
        tokenizer = _tokenizer(settings, split.train)
    set_seed(settings.seed)
    model = new_model(settings, tokenizer)
    model.config.fingerprints = fingerprints(tokenizer.backend_tokenizer, settings.template)
    coded = lambda some: encode(some, tokenizer, settings.architecture, settings.template, settings.max_tokens)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=coded(split.train),
        eval_dataset=coded(split.held_out),
        # padding is masked in the labels (-100), and only as long as its batch needs
        data_collator=DataCollatorForSeq2Seq(tokenizer, model),
        callbacks=callbacks(settings),
        optimizers=(_optimizer(settings, model), None),
    )
    figures = _about(split, tokenizer, settings, model)
    if trainer.is_world_process_zero():
        write_pairs(settings.run / "train.jsonl", split.train)  # for leak reports against any later test set
        write_json(settings.run / "data.json", figures)
        print(json.dumps(figures, ensure_ascii=False))
    with memory_advice(settings, "max_tokens"):
        trainer.train(resume_from_checkpoint=last_checkpoint(settings))
    best = settings.run / "best"
    trainer.save_model(str(best))
    if trainer.is_world_process_zero():
        _finish(settings, trainer, tokenizer, split, figures)
    return best


def _split(settings: WriterSettings) -> Split:
    if not settings.pairs:
        return draw_split(settings.drawn, settings.held_out_share, settings.seed)
    pairs = load_pairs(settings.pairs, settings.exclude)
    split = split_pairs(pairs, settings.held_out_share, settings.seed, settings.split)
    if not split.held_out:
        raise UserError(f"held_out_share {settings.held_out_share} of {len(pairs)} pairs holds none out")
    return split


def _finish(settings: WriterSettings, trainer, tokenizer, split: Split, figures: dict) -> None:
    """Write tokenizer, history and figures; export."""
    tokenizer.save_pretrained(str(settings.run / "best"))
    trainer.state.save_to_json(str(settings.run / "history.json"))
    rows = token_rows(split.held_out, tokenizer, settings.architecture, settings.template)
    characters = sum(len(p.comment) for p in split.held_out)
    bits = sum(nats(trainer.model, rows, tokenizer.pad_token_id)) / characters / log(2)
    write_json(
        settings.run / "figures.json", {**figures, "bits_per_character": bits, "steps": trainer.state.global_step}
    )
    if settings.export:
        card = {"architecture": settings.architecture, "template": settings.template}
        card |= {"styles": _styles(split.train), "sorts": _sorts(split.train), "eos": tokenizer.eos_token}
        export(settings.run / "best", settings.export, card)
        if not settings.pairs:  # our corpus is large enough to know what goes together
            taught = (corpus.every_line(lang, style) for lang, styles in settings.drawn.items() for style in styles)
            save_sequences(chain.from_iterable(taught), settings.export)


def _tokenizer(settings: WriterSettings, pairs: list[Pair]):
    """The run's tokenizer; for models from random weights learned once from its training pairs."""
    settings.run.mkdir(parents=True, exist_ok=True)
    settings.save(settings.run / "settings.yaml")
    file = settings.run / "tokenizer.json"
    if not settings.start and not file.exists():
        marks = "".join(PLAN_ENDS.values())
        train_tokenizer((text for p in pairs for text in (p.elements, p.comment, marks)), settings.vocab_size, file)
    return load_tokenizer(settings.start, file)


def _about(split: Split, tokenizer, settings: WriterSettings, model) -> dict:
    """What a figure of this run needs beside it to be understood.

    A loss per token means nothing across tokenizers; times `bits_per_character_of_loss` it is bits per character.
    """
    targets = [t for _, t in token_rows(split.held_out, tokenizer, settings.architecture, settings.template)]
    characters = sum(len(p.comment) for p in split.held_out)
    return {
        "train_pairs": len(split.train),
        "held_out_pairs": len(split.held_out),
        "split": settings.split,
        "split_hash": split.hash,
        "seed": settings.seed,
        "leaks": leaks(split.train, split.held_out),
        "parameters": model.num_parameters(),
        "bits_per_character_of_loss": sum(map(len, targets)) / characters / log(2),
        "dropout": {k: v for k, v in model.config.to_dict().items() if k.endswith(("_pdrop", "dropout_rate"))},
    }


def _styles(pairs: list[Pair]) -> dict[str, list[str]]:
    """language -> the styles it was taught in."""
    found = {(p.lang, p.style) for p in pairs}
    return {lang: [s for s in corpus.STYLES if (lang, s) in found] for lang in sorted({lang for lang, _ in found})}


def _sorts(pairs: list[Pair]) -> list[str]:
    """The sorts of elements that it was taught."""
    lists = {(p.elements, p.lang) for p in pairs}
    return sorted({sort_of(e) for elements, lang in lists for e in ElementList.parse(elements, lang)})


def _optimizer(settings: WriterSettings, model):
    """T5's initial weights differ a hundredfold in size between matrices: steps must be relative to them.

    AdamW needs six times as many pairs to get as far with it (docs/experiments.md).
    """
    if settings.optimizer == "adafactor":
        from transformers import Adafactor

        return Adafactor(model.parameters(), lr=settings.lr, scale_parameter=True, relative_step=False)
    from torch.optim import AdamW

    return AdamW(model.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=settings.weight_decay)


main = settings_command("language.comment.train", __doc__, WriterSettings, train)


if __name__ == "__main__":
    exit_with(main)
