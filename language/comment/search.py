"""Search training settings: grid or random, resumable.

    python -m language.comment.search --config configs/comment/search.yaml pairs=pairs.jsonl

Every trial is a run of `language.comment.train` in its own folder; trials stand in `study.db` (Optuna), so that a
search that was interrupted goes on, and `best.yaml` holds the best one's settings.
"""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from common.errors import UserError, exit_with
from configs.load import Settings, load_settings, settings_command
from language.comment.train import WriterSettings, train


class Range(Settings):
    """Values between two bounds."""

    low: float
    high: float
    log: bool = False


class SearchSettings(Settings):
    """What is searched."""

    base: Path  # config of the training that is varied
    run: Path
    pairs: Path | None = None  # overrides the base's
    sampler: Literal["grid", "random"] = "grid"
    trials: int = Field(20, ge=1)  # of the random sampler; a grid is as large as it is
    space: dict[str, list | Range]  # key of the training -> its values, or a range (random only)
    overrides: dict = {}  # fixed changes to the base
    seed: int = 0


def search(settings: SearchSettings) -> Path:
    """Run all trials that are not done; returns the file with the best settings."""
    import optuna

    check(settings)
    settings.run.mkdir(parents=True, exist_ok=True)
    settings.save(settings.run / "search.yaml")
    if settings.sampler == "grid":
        sampler = optuna.samplers.GridSampler(settings.space, seed=settings.seed)
        wanted = len(sampler._all_grids)
    else:
        sampler, wanted = optuna.samplers.RandomSampler(seed=settings.seed), settings.trials
    storage = f"sqlite:///{settings.run / 'study.db'}"
    study = optuna.create_study(storage=storage, study_name="search", sampler=sampler, load_if_exists=True)
    for trial in study.trials:  # what was interrupted is tried again, from its checkpoint
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)
    done = sum(t.state == optuna.trial.TrialState.COMPLETE for t in study.trials)
    study.optimize(lambda trial: _try(trial, settings), n_trials=max(0, wanted - done))
    best = settings.run / "best.yaml"
    content = {"value": study.best_value, "params": study.best_params, "trials": len(study.trials)}
    best.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return best


def check(settings: SearchSettings) -> None:
    """Refuse a space that cannot be searched, before any work.

    Raises:
        UserError: unknown keys of the training, or a range in a grid.
    """
    if unknown := sorted({*settings.space, *settings.overrides} - set(WriterSettings.model_fields)):
        raise UserError(
            f"search: unknown settings {', '.join(unknown)} (known: {', '.join(WriterSettings.model_fields)})"
        )
    ranges = [key for key, values in settings.space.items() if isinstance(values, Range)]
    if settings.sampler == "grid" and ranges:
        raise UserError(f"search: a grid needs lists of values, but {', '.join(ranges)} is a range")


def _try(trial, settings: SearchSettings) -> float:
    """One training; its held-out bits per character, which compare across tokenizers."""
    import json

    values = {}
    for key, choice in settings.space.items():
        if isinstance(choice, Range):
            values[key] = trial.suggest_float(key, choice.low, choice.high, log=choice.log)
        else:
            values[key] = trial.suggest_categorical(key, choice)
    name = "_".join(f"{key}={value}" for key, value in values.items())
    changes = {**settings.overrides, **values, "run": str(settings.run / name), "export": None}
    if settings.pairs:
        changes["pairs"] = str(settings.pairs)
    train(load_settings(settings.base, WriterSettings, [f"{k}={json.dumps(v)}" for k, v in changes.items()]))
    return json.loads((settings.run / name / "figures.json").read_text("utf-8"))["bits_per_character"]


main = settings_command("language.comment.search", __doc__, SearchSettings, search)


if __name__ == "__main__":
    exit_with(main)
