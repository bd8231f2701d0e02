"""What a frozen encoder says of each photo, computed once and read from a file: epochs then cost no encoder."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

from common.devices import best_device
from common.errors import UserError
from language.caption.photos import UnreadablePhoto


def cached(encoder, look: Callable, photos: list[str], views: int, folder: Path, name: dict) -> Callable:
    """photo -> `{"features": (tokens, hidden)}`, one of its `views` at random; computed where the file is not there.

    Args:
        look: photo -> `{"pixel_values": (3, height, width)}`; asked `views` times for each photo.
        folder: files lie here, named by everything that they depend on, so that runs share them.
        name: what else the features depend on, beside the encoder's weights and the photos.
    """
    weights = [float(value.double().sum()) for value in encoder.state_dict().values()]
    sizes = [(photo, Path(photo).stat().st_size) for photo in photos]
    digest = hashlib.sha256(json.dumps([name, weights, sizes, views]).encode()).hexdigest()[:16]
    file = folder / f"{digest}.npy"
    if not file.exists():
        _compute(encoder, look, photos, views, file)
    rows, place = np.load(file, mmap_mode="r"), {photo: number for number, photo in enumerate(photos)}

    def features(photo: str) -> dict:
        import torch

        row = rows[place[photo], random.randrange(views)]
        if np.isnan(row[0, 0]):
            raise UnreadablePhoto(f"{photo} could not be read when features were computed")
        return {"features": torch.from_numpy(row.astype(np.float32))}

    return features


def _compute(encoder, look: Callable, photos: list[str], views: int, file: Path) -> None:
    """Write (photos, views, tokens, hidden) as half floats; NaN where a photo cannot be read.

    Raises:
        UserError: no photo can be read, or the disk is too small.
    """
    import torch
    from rich.progress import track

    file.parent.mkdir(parents=True, exist_ok=True)
    encoder, part, rows = encoder.to(best_device()), file.with_suffix(f".{os.getpid()}.part"), None
    try:
        for number, photo in enumerate(track(photos, "features")):
            try:
                pixels = torch.stack([look(photo)["pixel_values"] for _ in range(views)])
            except UnreadablePhoto:
                continue
            with torch.inference_mode():
                found = encoder(pixel_values=pixels.to(encoder.device)).last_hidden_state.half().cpu().numpy()
            if rows is None:
                rows = _empty(part, (len(photos), *found.shape))
            rows[number] = found
        if rows is None:
            raise UserError(f"none of {len(photos)} photos can be read (the first: {photos[0]})")
        rows.flush()
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _empty(part: Path, shape: tuple[int, ...]) -> np.memmap:
    """A file of NaN; a mapped file that outgrows the disk would end the process without a word.

    Raises:
        UserError: the disk is too small.
    """
    needed, free = 2 * prod(shape), shutil.disk_usage(part.parent).free
    if needed > free:
        raise UserError(
            f"cached features need {needed / 1e9:.1f} GB, and {part.parent} has {free / 1e9:.1f} GB free; "
            "lower views or image_size, or give cache_features=null"
        )
    rows = np.lib.format.open_memmap(part, "w+", np.float16, shape)
    rows[:, :, 0, 0] = np.nan
    return rows
