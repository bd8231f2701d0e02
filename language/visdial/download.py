"""VisDial 1.0 from its authors, and the photos it is about: whole files, resumed where they stopped.

    python -m language.visdial.download --list
    python -m language.visdial.download --out data/visdial
    python -m language.visdial.download --out data/visdial --only val val_dense val_photos

Without --only all dialogs and dense annotations come, and no photos. A file that is there whole is not fetched again;
`downloaded.json` in the folder says what came, how large and from where. Archives are unpacked (each file of them is
checked) and then deleted. Exit status 1 when something did not come; the same command tries again.
"""

import argparse
import json
import os
import shutil
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError, exit_with
from common.fetch import FetchError, fetch_file
from common.files import write_json

DROPBOX, COCO = "https://www.dropbox.com/s", "http://images.cocodataset.org/zips"
GB = 1e9


@dataclass(frozen=True)
class Source:
    """A file to fetch.

    Attributes:
        target: what stands in the folder afterwards: a file, or a folder of photos.
        bytes: how large it is; about so large where `exact` is False.
        unpacked: what comes out of an archive, about.
    """

    url: str
    target: str
    bytes: float
    unpacked: float = 0
    exact: bool = False
    md5: str | None = None
    photos: bool = False

    @property
    def file(self) -> str:
        """The name under which it is fetched."""
        return self.url.rpartition("/")[2].partition("?")[0]


SOURCES = {
    "train": Source(f"{DROPBOX}/ix8keeudqrd8hn8/visdial_1.0_train.zip?dl=1", "visdial_1.0_train.json", 4e8, 1e9),
    "val": Source(f"{DROPBOX}/ibs3a0zhw74zisc/visdial_1.0_val.zip?dl=1", "visdial_1.0_val.json", 3e7, 1e8),
    "test": Source(f"{DROPBOX}/o7mucbre2zm7i5n/visdial_1.0_test.zip?dl=1", "visdial_1.0_test.json", 3e7, 1e8),
    "train_dense": Source(
        f"{DROPBOX}/1ajjfpepzyt3q4m/visdial_1.0_train_dense_sample.json?dl=1",
        "visdial_1.0_train_dense_sample.json",
        3e6,
    ),
    "val_dense": Source(
        f"{DROPBOX}/3knyk09ko4xekmc/visdial_1.0_val_dense_annotations.json?dl=1",
        "visdial_1.0_val_dense_annotations.json",
        3e6,
    ),
    "train_photos": Source(
        f"{COCO}/train2014.zip", "train2014", 13510573713, 1.4e10, True, "0da8c0bd3d6becc4dcb32757491aca88", True
    ),
    "train_photos_2": Source(  # VisDial 1.0 train is about both parts of COCO 2014
        f"{COCO}/val2014.zip", "val2014", 6645013297, 7e9, True, "a3d79f5ed8d289b7a7554ce06a5782b3", True
    ),
    "val_photos": Source(
        f"{DROPBOX}/twmtutniktom7tu/VisualDialog_val2018.zip?dl=1", "VisualDialog_val2018", 4e8, 4e8, photos=True
    ),
    "test_photos": Source(
        f"{DROPBOX}/mwlrg31hx0430mt/VisualDialog_test2018.zip?dl=1", "VisualDialog_test2018", 1.4e9, 1.4e9, photos=True
    ),
}


class Folder:
    """What was downloaded to a folder, and what it knows of it."""

    def __init__(self, path: Path) -> None:
        """Look at the folder.

        Raises:
            UserError: its list of downloads is damaged.
        """
        self.path, self.list = path, path / "downloaded.json"
        try:
            self.known: dict[str, dict] = json.loads(self.list.read_text("utf-8")) if self.list.exists() else {}
        except ValueError as error:
            raise UserError(f"{self.list} is damaged; delete it, and everything is looked at anew") from error

    def has(self, source: Source) -> bool:
        """Whether it came whole and is still there with as many bytes in as many files."""
        noted = self.known.get(source.target)
        return bool(noted) and noted["files"] == _sizes(self.path / source.target)

    def missing_bytes(self, source: Source) -> float:
        """The room that is needed to fetch and unpack it."""
        part = self.path / f"{source.file}.part"
        there = part.stat().st_size if part.exists() else 0
        return max(0, source.bytes - there) + source.unpacked

    def fetch(self, source: Source, report, wait_s: float = 1) -> None:
        """Have it whole.

        Raises:
            FetchError: it did not come, or is broken.
        """
        file, target = self.path / source.file, self.path / source.target
        if not file.exists() or not _is_whole(file, source):
            size = int(source.bytes) if source.exact else None
            fetch_file(source.url, file, wait_s=wait_s, size=size, md5=source.md5, report=report)
        if file != target:
            _unpack(file, target, report)
            file.unlink()
        else:
            _check_json(file)
        self.known[source.target] = {"url": source.url, "md5": source.md5, "files": _sizes(target)}
        write_json(self.list, self.known)


def _sizes(target: Path) -> list[int]:
    """How many files stand there, and how many bytes they have."""
    files = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]
    return [len(files), sum(path.stat().st_size for path in files)]


def _is_whole(file: Path, source: Source) -> bool:
    """Whether a file that came by other means, or before a crash, can be used."""
    if source.exact:
        return file.stat().st_size == source.bytes
    try:
        _check_json(file) if file.suffix == ".json" else zipfile.ZipFile(file).close()
    except (FetchError, zipfile.BadZipFile):
        return False
    return True


def _check_json(file: Path) -> None:
    try:
        json.loads(file.read_bytes())
    except ValueError as error:
        file.unlink()
        raise FetchError(f"{file.name} is no JSON: {error}") from error


def _unpack(archive: Path, target: Path, report) -> None:
    """The target out of an archive, whole or not at all; every file's checksum is compared while it is written."""
    part = target.with_name(f"{target.name}.unpacked")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            done, total = 0, sum(member.file_size for member in packed.infolist())
            for member in packed.infolist():
                packed.extract(member, part)  # which makes names that lead out of the folder harmless
                report(done := done + member.file_size, total)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        archive.unlink()
        shutil.rmtree(part, ignore_errors=True)
        raise FetchError(f"{archive.name} is broken: {error}") from error
    found = sorted(part.rglob(target.name), key=lambda path: len(path.parts))
    if not found:
        names = ", ".join(sorted(path.name for path in part.iterdir())[:5])
        archive.unlink()
        shutil.rmtree(part)
        raise FetchError(f"{archive.name} holds no {target.name}, but {names or 'nothing'}")
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(found[0], target)
    shutil.rmtree(part)


def download(names: list[str], out: Path, wait_s: float = 1) -> dict[str, str]:
    """Fetch what is missing; what did not come, with the reason.

    Raises:
        UserError: the disk has not enough room for all that is missing; nothing is fetched then.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    folder, failed = Folder(out), {}
    missing = [name for name in names if not folder.has(SOURCES[name])]
    need = sum(folder.missing_bytes(SOURCES[name]) for name in missing)
    existing = next(path for path in (out, *out.absolute().parents) if path.is_dir())
    if need > (free := shutil.disk_usage(existing).free):
        raise UserError(
            f"{', '.join(missing)} need about {need / GB:.1f} GB, but {existing} has {free / GB:.1f} GB free; "
            "make room, or choose fewer with --only"
        )
    out.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for name in missing:
            task = progress.add_task(name, total=None)
            try:
                folder.fetch(
                    SOURCES[name], lambda done, total, t=task: progress.update(t, completed=done, total=total), wait_s
                )
            except FetchError as error:
                failed[name] = str(error)
    print(f"{len(missing) - len(failed)} fetched, {len(names) - len(missing)} there, {len(failed)} failed: {out}")
    return failed


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.visdial.download", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("data/visdial"), metavar="FOLDER", help="%(default)s")
    parser.add_argument("--only", nargs="+", choices=list(SOURCES), metavar="NAME", help=", ".join(SOURCES))
    parser.add_argument("--photos", action="store_true", help="the photos, too (about 22 GB)")
    parser.add_argument("--list", action="store_true", help="show what there is, how large, and what is there; stop")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    names = args.only or [name for name, source in SOURCES.items() if args.photos or not source.photos]
    if args.list:
        folder = Folder(args.out)
        for name in args.only or SOURCES:
            source = SOURCES[name]
            size = f"{'' if source.exact else 'about '}{source.bytes / GB:.3f} GB"
            state = "there" if folder.has(source) else "missing"
            print(f"{name:<15} {size:>14}  {state:<7}  {source.target}  {source.url}")
        return 0
    failed = download(names, args.out)
    for name, reason in failed.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    exit_with(main)
