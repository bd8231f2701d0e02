"""Decode presets (configs/decode/*.yaml) and writing with models in transformers' format."""

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field

from common.errors import UserError
from configs.load import Settings, load_settings

PRESETS = Path(__file__).parents[2] / "configs/decode"


class DecodeSettings(Settings):
    """How tokens are chosen. `consensus` draws `samples` and keeps the one most like the others."""

    method: Literal["greedy", "beam", "sample", "consensus"] = "greedy"
    beams: int = Field(4, ge=2)
    samples: int = Field(32, ge=2)
    top_k: int = Field(50, ge=0)  # 0: all
    top_p: float = Field(1.0, gt=0, le=1)
    temperature: float = Field(1.0, gt=0)
    no_repeat_ngram: int = Field(0, ge=0)
    max_new_tokens: int = Field(64, ge=1)
    seed: int = 0

    def options(self) -> dict:
        """Keyword arguments of `transformers`' `generate`."""
        common = {"max_new_tokens": self.max_new_tokens, "no_repeat_ngram_size": self.no_repeat_ngram}
        if self.method == "beam":
            return {**common, "num_beams": self.beams, "do_sample": False}
        if self.method == "greedy":
            return {**common, "do_sample": False}
        drawn = {"do_sample": True, "top_k": self.top_k, "top_p": self.top_p, "temperature": self.temperature}
        return {**common, **drawn, "num_return_sequences": self.samples if self.method == "consensus" else 1}


def load_decode(name: str) -> tuple[str, DecodeSettings]:
    """A preset by its name, or a YAML file: (name, settings).

    Raises:
        UserError: there is no such preset or file, or it has mistakes.
    """
    file = PRESETS / f"{name}.yaml"
    if not file.exists() and not Path(name).is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
        raise UserError(f"unknown decode preset {name!r}: allowed are {known} or a YAML file")
    file = file if file.exists() else Path(name)
    return file.stem, load_settings(file, DecodeSettings)


def generate(model, tokenizer, sources: list[list[int]], decode: DecodeSettings, batch: int = 64) -> list[str]:
    """What a model writes for each source of token ids: targets as text, plans included.

    Sources of a causal model are padded on the left, and what it wrote begins where its input ended.
    """
    import torch
    from transformers import set_seed

    set_seed(decode.seed)
    model = model.eval()
    written: list[str] = []
    options = {**decode.options(), "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    each = options.get("num_return_sequences", 1)
    for first in range(0, len(sources), batch):
        ids, mask = _padded(sources[first : first + batch], tokenizer.pad_token_id)
        with torch.no_grad():
            tokens = model.generate(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), **options)
        new = tokens if model.config.is_encoder_decoder else tokens[:, ids.shape[1] :]
        texts = [tidy(text) for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
        groups = [texts[place : place + each] for place in range(0, len(texts), each)]
        written += [consensus(group) for group in groups]
    return written


def _padded(rows: list[list[int]], pad: int):
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def tidy(text: str) -> str:
    """Without the halves of characters that byte-level tokens leave where a text was cut off."""
    return text.replace("\ufffd", "").strip()


def consensus(texts: list[str]) -> str:
    """The text most like all the others: minimum Bayes risk under the F score of character n-grams up to four.

    Source: Eikema & Aziz 2020, "Is MAP Decoding All You Need?"; the likeness is chrF's with beta 1.
    """
    grams = [Counter(text[i : i + n] for n in range(1, 5) for i in range(len(text) - n + 1)) for text in texts]
    sizes = [max(1, counts.total()) for counts in grams]
    like = lambda a, b: 2 * (grams[a] & grams[b]).total() / (sizes[a] + sizes[b])
    gain = [sum(like(a, b) for b in range(len(texts)) if a != b) for a in range(len(texts))]
    return texts[max(range(len(texts)), key=gain.__getitem__)]
