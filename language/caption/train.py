"""Train a photo captioner: any vision encoder and a decoder that looks at it, or a whole captioner to go on from.

    python -m language.caption.train --config configs/caption/pocket.yaml
    python -m language.caption.train --config configs/caption/vit_gpt2_all.yaml "data=[{csv: FILE, photos: FOLDER}]"
    accelerate launch --multi_gpu --num_processes 2 -m language.caption.train --config …

Held out are whole photos. What learns is named by `train`; a run that would freeze weights which no checkpoint held is
refused: a photo that has to pass through random weights cannot be seen. A run that was interrupted goes on where it
stopped.
"""

import json
from math import log
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.errors import UserError, exit_with
from common.files import write_json
from configs.load import settings_command
from language.caption import data
from language.caption.data import Captions, Cleaning, PhotoRows, Source, Split
from language.caption.features import cached
from language.caption.models import build, freeze
from language.comment.models import load_tokenizer
from language.tokenizer import train_tokenizer
from language.training import (
    LearningSettings,
    callbacks,
    check_run,
    last_checkpoint,
    memory_advice,
    own_names,
    training_arguments,
)

Modules = Annotated[list[str], Field(min_length=1)]


class CaptionSettings(LearningSettings):
    """Settings of one run."""

    # what it learns from
    data: list[Source] = Field(min_length=1)
    cleaning: Cleaning = Cleaning()
    held_out_share: float = Field(0.1, gt=0, lt=1)  # of the photos
    max_tokens: int = Field(128, ge=4)  # a longer caption is cut
    augment: bool = False  # random cuts and mirror images, in training alone
    workers: int = Field(0, ge=0)  # processes that load photos
    # the model: a whole captioner, or an encoder and a decoder; each a hub name or a folder in transformers' format
    start: str | None = None
    encoder: str | None = None  # or `trunk`: that of a YOLO detector
    decoder: str | None = None  # null: a GPT-2 from random weights, with a tokenizer learned from the captions
    trunk_weights: Path | None = None  # .pt of Ultralytics
    trunk_layers: list[int] = Field([21], min_length=1)  # whose feature maps are read; the last sets the places
    trunk_classes: bool = False  # with what the detector says of each class
    image_size: int = Field(320, ge=32, multiple_of=32)  # of the trunk, in pixels
    vocab_size: int = 2500  # these sizes are for a decoder from random weights
    width: int = 256
    layers: int = 4
    heads: int = 4
    dropout: float | None = Field(None, ge=0, lt=1)  # of the decoder; null: as published, 0.1 from random weights
    # what learns: modules such as decoder.transformer.h.-1, or one of the words
    train: Literal["all", "last_block", "last_block+cross_attention"] | Modules = "all"
    allow_frozen_new: bool = False  # freeze weights that are still random, too
    cache_features: Path | None = None  # folder for what a frozen encoder says of each photo
    views: int = Field(8, ge=1)  # how many augmented views of a photo are cached
    # how it learns, where it differs from other trainers
    batch: int = Field(4, ge=1)
    epochs: float = Field(3, gt=0)

    @model_validator(mode="after")
    def _one_model(self):
        if bool(self.start) == bool(self.encoder):
            raise ValueError("give either start (a whole captioner) or encoder")
        if self.start and self.decoder:
            raise ValueError("start is a whole captioner: leave decoder out")
        if (self.encoder == "trunk") != bool(self.trunk_weights):
            raise ValueError("encoder: trunk and trunk_weights belong together")
        return self


def train(settings: CaptionSettings) -> Path:
    """Run one training; returns the folder of the best checkpoint in transformers' format."""
    from transformers import Trainer, set_seed

    check_run(settings)
    captions = data.gather(settings.data, settings.cleaning)
    split = data.split_rows(captions.rows, settings.held_out_share, settings.seed)
    arguments = training_arguments(
        settings,
        remove_unused_columns=False,
        prediction_loss_only=True,
        dataloader_num_workers=settings.workers,
        ddp_find_unused_parameters=True,  # the pooler of a ViT
    )
    with arguments.main_process_first(local=False):
        tokenizer = _tokenizer(settings, split)
    set_seed(settings.seed)
    model, processor, new = build(settings, tokenizer)
    parameters = freeze(model, settings.train, new, settings.allow_frozen_new)
    print(f"{parameters['total']:,} parameters, {parameters['trainable']:,} of them learn")
    own_names(model)
    figures = _about(settings, captions, split, tokenizer) | {"parameters": parameters}
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            _write_about(settings, captions, split, figures)
        looks = _looks(settings, model, processor, split)
    broken = settings.run / "unreadable_photos.txt"
    rows = lambda some, look: PhotoRows(some, tokenizer, settings.max_tokens, look, broken)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows(split.train, looks[0]),
        eval_dataset=rows(split.held_out, looks[1]),
        data_collator=data.collate,
        callbacks=callbacks(settings),
    )
    with memory_advice(settings, "max_tokens"):
        trainer.train(resume_from_checkpoint=last_checkpoint(settings))
    best = settings.run / "best"
    trainer.save_model(str(best))
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(str(best))
        processor.save_pretrained(str(best))
        trainer.state.save_to_json(str(settings.run / "history.json"))
        _write_figures(settings, trainer.state, figures)
    return best


def _tokenizer(settings: CaptionSettings, split: Split):
    """That of the weights which it goes on from; for a decoder from random weights learned from the captions."""
    source, file = settings.start or settings.decoder, settings.run / "tokenizer.json"
    if not source and not file.exists():
        train_tokenizer((row.caption for row in split.train), settings.vocab_size, file)
    return load_tokenizer(source, file)


def _looks(settings: CaptionSettings, model, processor, split: Split) -> list:
    """How photos become what the model reads, in training and held out."""
    sided = data.with_side(split.train)
    looks = [data.looker(processor, settings.augment, sided), data.looker(processor, augment=False)]
    if not settings.cache_features:
        return looks
    if any(p.requires_grad for p in model.encoder.parameters()):
        raise UserError("cache_features needs a frozen encoder: name what learns in train, such as [decoder]")
    views = [settings.views if settings.augment else 1, 1]
    sides = [list(dict.fromkeys(row.image for row in rows)) for rows in (split.train, split.held_out)]
    encoder, about = model.encoder.eval(), [model.encoder.config.to_dict(), processor.to_dict()]
    return [
        cached(encoder, look, photos, count, settings.cache_features, [*about, settings.seed, settings.augment])
        for look, photos, count in zip(looks, sides, views, strict=True)
    ]


def _about(settings: CaptionSettings, captions: Captions, split: Split, tokenizer) -> dict:
    """What a figure of this run needs beside it to be understood.

    A loss per token means nothing across tokenizers; times `bits_per_character_of_loss` it is bits per character.
    """
    texts = [row.caption for row in split.held_out]
    tokens = sum(len(ids) + 1 for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
    return {
        "rows": len(captions.rows),
        "photos": len(captions.photos),
        "train_rows": len(split.train),
        "held_out_rows": len(split.held_out),
        "held_out_photos": len({row.image for row in split.held_out}),
        "split_hash": split.hash,
        "seed": settings.seed,
        "dropped": dict(captions.dropped),
        "changed": dict(captions.changed),
        "missing_photos": len(captions.missing),
        "unreadable_photos": len(captions.unreadable),
        "leaks": data.leaks(split.train, split.held_out),
        "bits_per_character_of_loss": tokens / sum(map(len, texts)) / log(2),
    }


def _write_about(settings: CaptionSettings, captions: Captions, split: Split, figures: dict) -> None:
    settings.run.mkdir(parents=True, exist_ok=True)
    settings.save(settings.run / "settings.yaml")
    for name, rows in (("train", split.train), ("held_out", split.held_out)):
        lines = [json.dumps(vars(row), ensure_ascii=False) for row in rows]
        (settings.run / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    write_json(settings.run / "data.json", figures)
    for name, photos in (("missing", captions.missing), ("unreadable", captions.unreadable)):
        (settings.run / f"{name}_photos.txt").write_text("".join(f"{photo}\n" for photo in photos), "utf-8")
    print(json.dumps(figures, ensure_ascii=False))


def _write_figures(settings: CaptionSettings, state, figures: dict) -> None:
    losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
    loss = (min if settings.keep == "best" else lambda some: some[-1])(losses) if losses else None
    unreadable = (settings.run / "unreadable_photos.txt").read_text("utf-8").splitlines()
    found = {"held_out_loss": loss, "steps": state.global_step, "unreadable_photos": len(set(unreadable))}
    found["bits_per_character"] = loss and loss * figures["bits_per_character_of_loss"]
    write_json(settings.run / "figures.json", figures | found)


main = settings_command("language.caption.train", __doc__, CaptionSettings, train)


if __name__ == "__main__":
    exit_with(main)
