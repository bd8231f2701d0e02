"""Train a dialog model: Gemma-3 with low-rank weights (LoRA), on VisDial or on answers that `datagen.visdial` made.

    python -m language.visdial.train --config configs/visdial/gemma3_4b.yaml data=train.jsonl photos=data/coco
    python -m language.visdial.train --config configs/visdial/gemma3_4b.yaml data=visdial_1.0_train.json 'lora={r: 8}'
    accelerate launch --multi_gpu --num_processes 2 -m language.visdial.train --config …

The loss counts answers alone. Photos are opened batch by batch; rows without one, or longer than `max_tokens`, are left
out, counted in `data.json` and named in `skipped.jsonl`. A run that was interrupted goes on where it stopped.
"""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from common.errors import UserError, exit_with
from common.files import write_json
from configs.load import settings_command
from language.training import (
    LearningSettings,
    callbacks,
    check_run,
    last_checkpoint,
    memory_advice,
    training_arguments,
)
from language.visdial.data import FORMATS, Encoder, Example, Photographed, Unusable, read_examples
from language.visdial.model import LoraSettings, base_model, unsloth_model, with_lora


class DialogSettings(LearningSettings):
    """Settings of one run; the defaults are the original's."""

    model: str = "google/gemma-3-4b-it"  # a folder in transformers' format or a hub name
    backend: Literal["transformers", "unsloth"] = "transformers"
    weights: Literal["4bit", "8bit", "bf16", "fp16", "fp32", "auto"] = "4bit"  # of the frozen model
    lora: LoraSettings = LoraSettings()
    # what it learns from
    data: Path  # see FORMATS
    photos: Path | None = None  # folder that photos are named from, or are found in by number
    rounds: Literal["last", "all"] = "last"  # questions of each dialog of a VisDial file
    max_tokens: int = Field(2048, ge=16)  # photo (256), conversation and answer; longer rows are left out
    held_out_share: float = Field(0, ge=0, lt=1)  # of the photos; 0: nothing is evaluated while it trains
    limit: int | None = Field(None, ge=1)  # only so many rows, drawn by the seed
    # how it learns, where it differs from other trainers
    optimizer: Literal["adamw_8bit", "adamw"] = "adamw_8bit"  # the first needs bitsandbytes and a GPU
    batch: int = Field(2, ge=1)
    accumulate: int = Field(4, ge=1)
    lr: float = Field(1e-5, gt=0)
    warmup_steps: int = 5
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    keep: Literal["best", "last"] = "last"
    eval_steps: int | None = 200  # steps between checkpoints, evaluated where something is held out
    gradient_checkpointing: bool = True
    workers: int = Field(0, ge=0)  # processes that open photos
    seed: int = 3407

    @model_validator(mode="after")
    def _fits(self):
        if self.keep == "best" and not self.held_out_share:
            raise ValueError("keep: best needs a held_out_share to know which checkpoint is best")
        return self


def train(settings: DialogSettings) -> Path:
    """Run one training; returns the folder of the low-rank weights and the processor."""
    from transformers import Trainer, set_seed

    check_run(settings)
    examples, skipped = read_examples(settings.data, settings.photos, settings.rounds)
    set_seed(settings.seed)
    with memory_advice(settings, "weights"):
        model, processor = _model(settings)
    encoder = Encoder(processor, settings.max_tokens)
    examples = _usable(examples, encoder, skipped)
    training, held_out = _split(examples, settings)
    if not training:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in _reasons(skipped).most_common(3))
        raise UserError(f"{settings.data} holds nothing to learn ({FORMATS}); left out: {reasons or 'none'}")
    arguments = training_arguments(settings, **_arguments(settings, bool(held_out), training))
    settings.run.mkdir(parents=True, exist_ok=True)
    note = _Skips(settings.run / "skipped.jsonl", skipped)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Photographed(training, encoder, note),
        eval_dataset=Photographed(held_out, encoder, note) if held_out else None,
        data_collator=encoder.batch,
        callbacks=callbacks(settings),
    )
    figures = _about(training, held_out, skipped, model, settings)
    if trainer.is_world_process_zero():
        settings.save(settings.run / "settings.yaml")
        note.begin()
        write_json(settings.run / "data.json", figures)
        print(json.dumps(figures, ensure_ascii=False))
    arguments.distributed_state.wait_for_everyone()
    with memory_advice(settings, "max_tokens", "weights", "gradient_checkpointing"):
        trainer.train(resume_from_checkpoint=last_checkpoint(settings))
    best = settings.run / "best"
    trainer.save_model(str(best))
    if trainer.is_world_process_zero():
        processor.save_pretrained(str(best))
        trainer.state.save_to_json(str(settings.run / "history.json"))
        figures |= {"steps": trainer.state.global_step, "broken_photos": note.found()}
        write_json(settings.run / "figures.json", figures)
    return best


def _model(settings: DialogSettings):
    if settings.backend == "unsloth":
        return unsloth_model(settings.model, settings.weights, settings.lora, settings.seed, settings.max_tokens)
    model, processor = base_model(settings.model, settings.weights)
    model.config.get_text_config().use_cache = False  # of no use in training
    return with_lora(model, settings.lora, settings.seed), processor


def _arguments(settings: DialogSettings, evaluated: bool, training: list[Example]) -> dict:
    """Arguments of `Trainer` that other trainers do not have."""
    when = "steps" if settings.eval_steps else "epoch"
    return {
        "optim": _optimizer(settings),
        "eval_strategy": when if evaluated else "no",
        "gradient_checkpointing": settings.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},  # reaches low-rank weights below frozen embeddings
        "logging_steps": 1,
        "dataloader_num_workers": settings.workers,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "prediction_loss_only": True,  # logits of 262,000 tokens a position do not fit beside the model
        # in a batch without photos the vision tower has no part
        "ddp_find_unused_parameters": any(example.photo is None for example in training),
    }


def _optimizer(settings: DialogSettings) -> str:
    if settings.optimizer == "adamw":
        return "adamw_torch"
    from transformers.utils import is_bitsandbytes_available

    from common.devices import best_device

    if best_device() == "cuda" and is_bitsandbytes_available():
        return "adamw_8bit"
    print("optimizer: adamw_8bit needs an NVIDIA GPU and bitsandbytes; plain AdamW takes its place")
    return "adamw_torch"


def _usable(examples: list[Example], encoder: Encoder, skipped: list[dict]) -> list[Example]:
    """Those that can be learnt; `skipped` gets the others."""
    good = []
    for example in examples:
        try:
            if not (example.answer or "").strip():
                raise Unusable("no answer is known")
            encoder.check(example)
            good.append(example)
        except Unusable as error:
            skipped.append({**example.where, "reason": str(error)})
    return good


def _split(examples: list[Example], settings: DialogSettings) -> tuple[list[Example], list[Example]]:
    """What is trained on and what is held out: all questions about a photo are on one side."""
    draw = random.Random(settings.seed)
    if settings.limit and settings.limit < len(examples):
        examples = draw.sample(examples, settings.limit)
    images = sorted({str(example.image_id) for example in examples})
    held = set(draw.sample(images, round(settings.held_out_share * len(images))))
    if settings.held_out_share and examples and not held:
        raise UserError(f"held_out_share {settings.held_out_share} of {len(images)} photos holds none out")
    part = lambda out: [example for example in examples if (str(example.image_id) in held) == out]
    return part(False), part(True)


def _reasons(skipped: list[dict]) -> Counter:
    """How often each reason stands there, without the names in it."""
    kinds = ("no photo", "no picture", "tokens", "answer", "mark", "question")
    return Counter(next((kind for kind in kinds if kind in row["reason"]), row["reason"]) for row in skipped)


def _about(training, held_out, skipped: list[dict], model, settings: DialogSettings) -> dict:
    """What a figure of this run needs beside it to be understood."""
    parameters = list(model.named_parameters())
    return {
        "train": len(training),
        "held_out": len(held_out),
        "photos": len({example.photo for example in training if example.photo}),
        "skipped": dict(_reasons(skipped)),
        "seed": settings.seed,
        "parameters": sum(p.numel() for _, p in parameters),  # two of a 4-bit matrix count as one
        "trainable": sum(p.numel() for _, p in parameters if p.requires_grad),
        "adapted_modules": sum("lora_A" in name for name, _ in parameters),
    }


class _Skips:
    """`skipped.jsonl`: what was left out before training, then photos that turned out to be broken, each once."""

    def __init__(self, file: Path, before: list[dict]) -> None:
        self.file, self.before, self.told = file, before, set()

    def begin(self) -> None:
        self.file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.before), "utf-8")

    def __call__(self, row: dict) -> None:
        line = json.dumps(row, ensure_ascii=False)
        if line not in self.told:
            self.told.add(line)
            with self.file.open("a", encoding="utf-8") as out:  # short appended lines of processes do not mix
                out.write(f"{line}\n")

    def found(self) -> int:
        """How many were found broken by any process."""
        return len(set(self.file.read_text("utf-8").split("\n")[len(self.before) : -1]))


main = settings_command("language.visdial.train", __doc__, DialogSettings, train)


if __name__ == "__main__":
    exit_with(main)
