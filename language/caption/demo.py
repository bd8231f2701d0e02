"""A page to try captioners on: upload a photo, read what each of them writes.

    python -m language.caption.demo runs/one runs/two --port 7860 --examples album/

Each captioner has its own tokenizer and image processor and runs on the best device there is. The page answers on this
machine alone, unless --host says otherwise; programs ask it at `/caption` (gradio_client).
"""

import argparse
import sys

from common.errors import UserError, exit_with
from language.caption.compare import run_names
from language.caption.photos import upright
from language.caption.write import captions, chosen_photos, load, longest
from language.comment.generate import DecodeSettings, load_decode


def answer(captioners: list[tuple], decode: DecodeSettings, image, max_new_tokens: int) -> list[str]:
    """What each captioner writes under any PIL picture, in at most so many tokens."""
    decode = decode.model_copy(update={"max_new_tokens": int(max_new_tokens)})
    return [captions(*captioner, [upright(image)], decode)[0] for captioner in captioners]


def build(runs: list[str], examples: list[str] = (), decode: str = "captions"):
    """The page as `gradio.Blocks`, not yet launched.

    Args:
        runs: runs, captioners' folders or hub names; one textbox each.
        examples: photos to click on.

    Raises:
        UserError: a captioner or the preset cannot be loaded.
    """
    import gradio

    names, (_, preset) = run_names(runs), load_decode(decode)
    captioners = [load(run) for run in runs]
    most = max(longest(captioner[0]) for captioner in captioners)

    def caption(image, max_new_tokens: int):
        if image is None:
            raise gradio.Error("Choose a photo first.")
        texts = answer(captioners, preset, image, max_new_tokens)
        return texts if len(texts) > 1 else texts[0]

    with gradio.Blocks(title="Captions side by side", analytics_enabled=False) as page:
        gradio.Markdown("# Captions side by side\nOne photo, one caption from each model.")
        with gradio.Row():
            with gradio.Column():
                photo = gradio.Image(type="pil", image_mode=None, label="Photo", height=360)
                tokens = gradio.Slider(
                    1, most, value=min(preset.max_new_tokens, most), step=1, label="Longest caption (tokens)"
                )
                button = gradio.Button("Write captions", variant="primary")
            with gradio.Column():
                boxes = [gradio.Textbox(label=name, lines=2, buttons=["copy"]) for name in names]
        if examples:
            gradio.Examples([[path] for path in examples], [photo])
        button.click(caption, [photo, tokens], boxes, api_name="caption")
    return page


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.caption.demo", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs, captioners' folders or hub names")
    parser.add_argument("--examples", nargs="+", default=[], metavar="IMAGE", help="photos, folders or globs to offer")
    parser.add_argument("--decode", default="captions", metavar="NAME", help="preset of configs/decode, or a YAML file")
    parser.add_argument("--host", default="127.0.0.1", help="address to answer on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=7860, metavar="N", help="port (default: 7860)")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    examples = chosen_photos(args.examples)
    page = build(args.runs, examples, args.decode)
    try:
        page.launch(server_name=args.host, server_port=args.port, allowed_paths=examples)
    except OSError as error:
        raise UserError(f"cannot answer on {args.host}:{args.port}: {error}") from None
    return 0


if __name__ == "__main__":
    exit_with(main)
