"""The COCO photos of a CSV, each whole and checked; what is there is not fetched again.

    python -m datagen.download --config configs/datagen/download.yaml csv=captions.csv --limit 100

The CSV needs split, image_id and file_name; its image_url is used where it has one. A photo goes to
`OUT/SPLIT/FILE_NAME` under that name only when it is complete. `checksums.jsonl` lists what came, `failed.csv` what did
not and why; the same command tries those again. Exit status 1 when some are missing.
"""

import argparse
import hashlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from common.errors import UserError, exit_with
from common.fetch import LONGEST_WAIT_S, FetchError, pause_s
from common.files import whole_file
from configs.load import Settings, load_settings
from datagen.fetch import Limits, check_picture, fetch_photo
from datagen.jobs import count_argument
from datagen.tables import read_jsonl, read_table, write_table

COLUMNS = ("split", "image_id", "file_name")


class DownloadSettings(Settings):
    """Settings of a download."""

    csv: Path
    out: Path  # folder of the photos
    base_url: str = "http://images.cocodataset.org"  # where rows without image_url are: BASE_URL/SPLIT/FILE_NAME
    only_gen_ok: bool = False  # only rows with gen_ok true, as in the Instagram job's output
    workers: PositiveInt = 8
    per_second: PositiveFloat | None = 20  # most requests that begin in a second
    timeout_s: PositiveFloat = 30  # a photo
    retries: Annotated[int, Field(ge=0)] = 3
    backoff_s: PositiveFloat = 1  # first wait, doubled each time
    most_bytes: PositiveInt = 50_000_000
    etag_is_md5: bool = True  # true of S3, where COCO lies
    verify: bool = False  # read photos that are there and fetch those again whose bytes have changed


@dataclass(frozen=True)
class Photo:
    """One photo to have."""

    row: dict
    name: str  # SPLIT/FILE_NAME
    url: str


class Gate:
    """Lets so many through in a second, and none while the server wants to be left alone."""

    def __init__(self, per_second: float | None) -> None:
        self.gap, self.next, self.turn = 1 / per_second if per_second else 0.0, 0.0, threading.Lock()

    def wait(self) -> None:
        with self.turn:
            now = time.monotonic()
            at = max(self.next, now)
            self.next = at + self.gap
        time.sleep(at - now)

    def close(self, seconds: float) -> None:
        with self.turn:
            self.next = max(self.next, time.monotonic() + seconds)


class Download:
    """One run of the command."""

    def __init__(self, settings: DownloadSettings) -> None:
        self.settings, self.gate = settings, Gate(settings.per_second)
        self.limits = Limits(settings.timeout_s, settings.most_bytes, settings.etag_is_md5)
        self.sums = settings.out / "checksums.jsonl"
        self.stop = threading.Event()

    def photos(self) -> Iterator[Photo]:
        """What the CSV asks for, each once.

        Raises:
            UserError: columns are missing, or a row names no file or one outside the folder.
        """
        s, seen = self.settings, set()
        for number, row in enumerate(read_table(s.csv, (*COLUMNS, *(["gen_ok"] if s.only_gen_ok else []))), 2):
            name = f"{row['split']}/{row['file_name']}"
            if not all(_is_plain(row[column]) for column in ("split", "file_name")):
                raise UserError(f"{s.csv}, row {number}: split and file_name must be plain names, but got {name!r}")
            wanted = not s.only_gen_ok or row["gen_ok"].strip().lower() == "true"
            if wanted and name not in seen:
                seen.add(name)
                yield Photo(row, name, row.get("image_url") or f"{s.base_url.rstrip('/')}/{name}")

    def run(self, limit: int | None = None) -> bool:
        """Fetch what is missing; whether everything is there."""
        from rich.console import Console
        from rich.progress import track

        total = sum(1 for _ in islice(self.photos(), limit))  # the whole CSV is read before anything is fetched
        known, counts, failed = self._known(), Counter(), []
        console = Console(stderr=True)
        self.settings.out.mkdir(parents=True, exist_ok=True)
        with self.sums.open("a", encoding="utf-8") as sums:
            results = self._results(islice(self.photos(), limit), known)
            for photo, result in track(
                results, "", total, console=console, transient=True, disable=not console.is_terminal
            ):
                if isinstance(result, FetchError):
                    failed.append({**{c: photo.row[c] for c in COLUMNS}, "url": photo.url, "reason": str(result)})
                elif result:
                    sums.write(json.dumps({"file": photo.name, **result, "url": photo.url}) + "\n")
                    sums.flush()
                counts["failed" if isinstance(result, FetchError) else result["how"] if result else "there"] += 1
        write_table(self.settings.out / "failed.csv", failed)
        named = ", ".join(f"{counts[how]:,} {how}" for how in ("fetched", "adopted", "there", "failed"))
        print(f"{named}: {self.settings.out}" + (f" (see {self.settings.out / 'failed.csv'})" if failed else ""))
        return not failed

    def _known(self) -> dict[str, tuple[int, str]]:
        """Name -> size and MD5 of what came before; the torn last line of a run that was killed is left out."""
        if not self.sums.exists():
            return {}
        text = self.sums.read_bytes()
        if text and not text.endswith(b"\n"):
            os.truncate(self.sums, text.rfind(b"\n") + 1)
        return {row["file"]: (row["bytes"], row["md5"]) for _, row in read_jsonl(self.sums)}

    def _results(self, photos: Iterator[Photo], known: dict) -> Iterator[tuple[Photo, dict | FetchError | None]]:
        """Photos with what became of them; never more in flight than twice the workers."""
        flying: dict[Future, Photo] = {}
        with ThreadPoolExecutor(self.settings.workers) as pool:
            try:
                for photo in photos:
                    flying[pool.submit(self._have, photo, known.get(photo.name))] = photo
                    if len(flying) >= 2 * self.settings.workers:
                        yield from self._landed(flying)
                while flying:
                    yield from self._landed(flying)
            finally:  # on a full disk or Ctrl-C nothing more is begun
                self.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _landed(self, flying: dict[Future, Photo]) -> list[tuple[Photo, dict | FetchError | None]]:
        done, _ = wait(flying, return_when=FIRST_COMPLETED)
        return [(flying.pop(future), future.result()) for future in done]

    def _have(self, photo: Photo, known: tuple[int, str] | None) -> dict | FetchError | None:
        """Make sure a photo is there: None when it was, else its checksum, or why it is not."""
        path = self.settings.out / photo.name
        if path.is_file():
            if known and path.stat().st_size == known[0] and not self.settings.verify:
                return None
            data = path.read_bytes()
            if known and _md5(data) == known[1]:
                return None
            if not known and _is_picture(data):  # came here by other means
                return {"how": "adopted", "bytes": len(data), "md5": _md5(data)}
        try:
            data = self._fetch(photo.url)
        except FetchError as error:
            return error
        with whole_file(path) as part:
            part.write_bytes(data)
        return {"how": "fetched", "bytes": len(data), "md5": _md5(data)}

    def _fetch(self, url: str) -> bytes:
        for tries in range(self.settings.retries + 1):
            self.gate.wait()
            if self.stop.is_set():
                raise FetchError("stopped")
            try:
                return fetch_photo(url, self.limits)
            except FetchError as error:
                if not error.again or tries == self.settings.retries:
                    raise
                if error.wait_s is not None:
                    self.gate.close(min(error.wait_s, LONGEST_WAIT_S))
                else:
                    self.stop.wait(pause_s(tries, self.settings.backoff_s))
        raise AssertionError("the last try returns or raises")


def _is_plain(name: str) -> bool:
    return bool(name.strip()) and name not in (".", "..") and not set(name) & set("/\\:\0")


def _is_picture(data: bytes) -> bool:
    try:
        check_picture(data)
    except FetchError:
        return False
    return True


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m datagen.download", description=__doc__.split("\n")[0])
    parser.add_argument("--config", required=True, type=Path, help="YAML file")
    parser.add_argument("--limit", type=count_argument, metavar="N", help="only the first N photos")
    parser.add_argument("--dry-run", action="store_true", help="show the first addresses and stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the config's")
    args = parser.parse_intermixed_args(sys.argv[1:] if argv is None else argv)
    download = Download(load_settings(args.config, DownloadSettings, args.overrides))
    if args.dry_run:
        for photo in islice(download.photos(), min(args.limit or 5, 5)):
            print(f"{photo.url} -> {download.settings.out / photo.name}")
        return 0
    return int(not download.run(args.limit))


if __name__ == "__main__":
    exit_with(main)
