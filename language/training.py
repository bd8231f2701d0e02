"""What all trainers on Hugging Face's Trainer share: how they learn, its arguments, resuming, files of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from common.errors import UserError
from configs.load import Settings

MAY_CHANGE = {"run", "epochs", "patience"}  # settings with which a run can go on


class LearningSettings(Settings):
    """How a model learns; each trainer adds what it learns from."""

    run: Path
    epochs: float = Field(1, gt=0)
    keep: Literal["best", "last"] = "best"  # checkpoint: by held-out loss, or what all epochs end with
    patience: int = 10  # evaluations without a better one before it stops; `keep: last` never stops early
    batch: int = Field(64, ge=1)  # per process
    accumulate: int = Field(1, ge=1)
    lr: float = Field(5e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "linear"
    warmup_steps: int = 0
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    eval_steps: int | None = None  # null: every epoch
    seed: int = 0


def training_arguments(settings: LearningSettings, **more):
    """`transformers.TrainingArguments` of the settings; `more` are arguments of one trainer only."""
    import torch
    from transformers import TrainingArguments

    when = "steps" if settings.eval_steps else "epoch"
    common = {
        "output_dir": str(settings.run / "checkpoints"),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.lr,
        "per_device_train_batch_size": settings.batch,
        "per_device_eval_batch_size": settings.batch,
        "gradient_accumulation_steps": settings.accumulate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": settings.precision == "bf16",
        "fp16": settings.precision == "fp16",
        "use_cpu": not torch.accelerator.is_available(),
        "eval_strategy": when,
        "save_strategy": when,
        "eval_steps": settings.eval_steps,
        "save_steps": settings.eval_steps or 500,
        "save_total_limit": 2,
        "load_best_model_at_end": settings.keep == "best",
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "logging_steps": 50,
        "report_to": [],  # TensorBoard's writer is given as a callback, with its folder
        "seed": settings.seed,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(**{**common, **more})


def callbacks(settings: LearningSettings) -> list:
    """Early stopping where the best checkpoint is kept, and TensorBoard in `<run>/tensorboard`."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers import EarlyStoppingCallback
    from transformers.integrations import TensorBoardCallback

    stopping = [EarlyStoppingCallback(settings.patience)] if settings.keep == "best" else []
    return [*stopping, TensorBoardCallback(SummaryWriter(settings.run / "tensorboard"))]


def last_checkpoint(settings: LearningSettings) -> str | None:
    """The checkpoint that an interrupted run goes on from."""
    from transformers.trainer_utils import get_last_checkpoint

    folder = settings.run / "checkpoints"
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def own_names(model) -> None:
    """Let checkpoints hold the model's weights under its own names.

    transformers saves them under those of the published checkpoint, and its Trainer reads a checkpoint without
    translating them back (huggingface/transformers#43701): a resumed run and the best checkpoint would keep whatever
    weights the model has, without an error.
    """
    model.save_pretrained = partial(model.save_pretrained, save_original_format=False)


def check_run(settings: LearningSettings) -> None:
    """Refuse a run folder in which other settings have trained: it would go on from weights that are not its own.

    Raises:
        UserError: names the settings that differ.
    """
    saved = settings.run / "settings.yaml"
    if not saved.exists() or not (settings.run / "checkpoints").exists():
        return
    old, new = yaml.safe_load(saved.read_text("utf-8")), settings.model_dump(mode="json")
    if other := sorted(key for key in {*old, *new} - MAY_CHANGE if old.get(key) != new.get(key)):
        given = "; ".join(f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in other)
        raise UserError(f"{settings.run} holds a run with other settings ({given}); give another run=FOLDER")


@contextmanager
def memory_advice(settings: LearningSettings, *also: str) -> Iterator[None]:
    """Turn an accelerator's out-of-memory error into one line that names the settings to lower.

    Args:
        also: names of further settings that decide how much memory a step takes.

    Raises:
        UserError: the accelerator is out of memory.
    """
    from torch import OutOfMemoryError

    try:
        yield
    except OutOfMemoryError as error:
        lower = ", ".join(f"{name} (now {getattr(settings, name)})" for name in ("batch", *also))
        raise UserError(
            f"the accelerator is out of memory; lower {lower}, raise accumulate to keep the batch that it learns from, "
            f"or set precision=bf16 (now {settings.precision}): {str(error).splitlines()[0][:120]}"
        ) from None
