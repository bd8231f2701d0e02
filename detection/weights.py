"""Where a detector's weights come from: embedded, a file, a weights folder, the cache, or an official download."""

import hashlib
import os
import re
from pathlib import Path

from common.errors import UserError

WEIGHTS_VARIABLE = "DAETGEUL_WEIGHTS"
OFFICIAL = re.compile(r"yolov8[nsmlx]-oiv7")
OFFICIAL_URL = "https://github.com/ultralytics/assets/releases/download/v8.3.0/{name}.pt"
# Published checksums. Sizes not listed are pinned at their first download, by a .sha256 file in the cache.
SHA256 = {
    "yolov8m-oiv7": "21ffa3718c577ac23e708e4c0544c49a20682efa03914d5f816166b54e8fd3fe",
    "yolov8x-oiv7": "11bdbcfb956ec2a3520ec924f565722fde74546ddd3423dfb57e5f593001cd56",
}


def cache_folder() -> Path:
    """The folder downloads are kept in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daetgeul"


def resolve(weights: str, pocket: Path) -> Path:
    """The file that `weights` stands for: "pocket", an official name, or a `.pt`/`.onnx` file.

    Raises:
        UserError: there is no such file, or an official one could not be had.
    """
    if weights == "pocket":
        if not pocket.exists():
            raise UserError(f"the embedded weights {pocket.name} are missing; reinstall, or train them (see README)")
        return pocket
    if Path(weights).suffix in (".pt", ".onnx"):
        if not Path(weights).is_file():
            raise UserError(f"weights file {weights} does not exist")
        return Path(weights)
    if not OFFICIAL.fullmatch(weights):
        raise UserError(
            f"unknown weights {weights!r}: allowed are pocket, yolov8{{n,s,m,l,x}}-oiv7, or a .pt or .onnx file"
        )
    name = f"{weights}.pt"
    folder = os.environ.get(WEIGHTS_VARIABLE)
    if folder and (Path(folder) / name).is_file():
        return Path(folder) / name
    cached = cache_folder() / name
    return cached if cached.is_file() else download(weights, cached)


def download(weights: str, target: Path) -> Path:
    """Fetch an official checkpoint with progress, verify it and move it into the cache.

    Raises:
        UserError: no connection or a wrong checksum; names the three ways to provide the file.
    """
    import urllib.error
    import urllib.request

    from rich.progress import wrap_file

    url, part = OFFICIAL_URL.format(name=weights), target.with_suffix(".part")
    ways = (
        f"provide {weights}.pt in one of three ways: --objects FILE.pt, a folder named by ${WEIGHTS_VARIABLE}, "
        f"or a connection for the download of {url}"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=30) as reply, part.open("wb") as out:
            size = int(reply.headers.get("Content-Length", 0))
            with wrap_file(reply, total=size, description=f"downloading {weights}") as body:
                while chunk := body.read(1 << 20):
                    digest.update(chunk)
                    out.write(chunk)
    except (urllib.error.URLError, OSError) as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{weights} could not be downloaded ({getattr(error, 'reason', error)}); {ways}") from None
    expected = SHA256.get(weights) or pinned(target)
    if expected and digest.hexdigest() != expected:
        part.unlink()
        raise UserError(f"the download of {weights} has SHA-256 {digest.hexdigest()}, expected {expected}; {ways}")
    target.with_suffix(".sha256").write_text(digest.hexdigest() + "\n", "utf-8")
    part.replace(target)
    return target


def pinned(target: Path) -> str | None:
    """The checksum an earlier download of `target` had, if there was one."""
    file = target.with_suffix(".sha256")
    return file.read_text("utf-8").strip() if file.exists() else None
