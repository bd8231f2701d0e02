"""What both detectors' trainers share: checking their paths, and Ultralytics' training with resume."""

from pathlib import Path

from common.errors import UserError
from configs.load import Settings

# Ours where Ultralytics' own do not suit: photos are whole and scenes full already, and two cores are few.
DEFAULTS = {"optimizer": "AdamW", "warmup_epochs": 0.3, "mosaic": 0.0, "workers": 2}


def open_run(settings: Settings, needed: list[Path]) -> None:
    """Make the run folder and save the settings in it, once every needed path is there.

    Raises:
        UserError: a path does not exist.
    """
    for path in needed:
        if not Path(path).exists():
            raise UserError(
                f"{path} does not exist; give the data root as data=FOLDER and check the paths in the config"
            )
    settings.run.mkdir(parents=True, exist_ok=True)
    settings.save(settings.run / "settings.yaml")


def check_arguments(arguments: dict) -> None:
    """Refuse names that Ultralytics' trainer does not know, before any work starts.

    Raises:
        UserError: a name is unknown.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    if unknown := sorted(set(arguments) - set(DEFAULT_CFG_DICT)):
        raise UserError(f"ultralytics: unknown training arguments {unknown} (see `yolo cfg` for all)")


def fit(start: str | Path, data: Path, settings: Settings, **more) -> Path:
    """Train a checkpoint with Ultralytics; `more` are its further arguments, instead of `DEFAULTS`.

    An interrupted training goes on from its last epoch, a finished one is not repeated.

    Returns:
        The folder with `best.pt` and `last.pt`.
    """
    from ultralytics import YOLO

    weights, done = settings.run / "train" / "weights", settings.run / "train.done"
    if not done.exists():
        if (weights / "last.pt").exists():
            YOLO(weights / "last.pt").train(resume=True)
        else:
            YOLO(start).train(
                data=str(data),
                epochs=settings.epochs,
                patience=settings.patience,
                imgsz=settings.imgsz,
                batch=settings.batch,
                lr0=settings.lr,
                seed=settings.seed,
                project=str(settings.run.resolve()),
                name="train",
                exist_ok=True,
                plots=True,
                **DEFAULTS | {"warmup_bias_lr": settings.lr} | more,
            )
        done.touch()
    return weights
