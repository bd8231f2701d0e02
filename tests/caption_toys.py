"""A tiny captioner of the real classes (ViT and GPT-2) with random weights, and photos of plain colours."""

from pathlib import Path

COLOURS = ("red", "green", "blue", "yellow", "black", "white")
SENTENCES = ("a {} wall stands in the sun", "the wall is all {}")


def colour_photos(folder: Path, colours: tuple[str, ...] = COLOURS, side: int = 48) -> list[Path]:
    """One photo of each colour, `<folder>/<colour>.png`."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{colour}.png" for colour in colours]
    for file in files:
        Image.new("RGB", (side, side), file.stem).save(file)
    return files


def caption_rows(photos: list[Path]) -> list[dict]:
    """Two right captions for each photo, as `held_out.jsonl` holds them."""
    return [{"image": str(photo), "caption": text.format(photo.stem)} for photo in photos for text in SENTENCES]


def tiny_captioner(folder: Path, seed: int = 0) -> Path:
    """Save a captioner of 32 px photos, its tokenizer and its image processor; returns the folder."""
    import torch
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessor,
        ViTModel,
    )

    from language.tokenizer import for_training, train_tokenizer

    torch.manual_seed(seed)
    texts = [text.format(colour) for text in SENTENCES for colour in COLOURS]
    train_tokenizer(texts * 2, 360, folder / "tokenizer.json")
    tokenizer = for_training(folder / "tokenizer.json")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    encoder = ViTModel(ViTConfig(image_size=32, patch_size=16, **sizes))
    small = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "add_cross_attention": True}
    end = tokenizer.eos_token_id
    ids = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": tokenizer.pad_token_id}
    decoder = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **small, **ids))
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    for config in (model.config, model.generation_config):
        for name, value in {**ids, "decoder_start_token_id": end}.items():
            setattr(config, name, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
