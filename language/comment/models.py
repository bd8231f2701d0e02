"""The two architectures of writers: built from settings, loaded to go on from, exported for CTranslate2."""

import json
from pathlib import Path

from common.errors import UserError
from language.comment.card import CARD, check_fingerprints, fingerprints
from language.tokenizer import for_training


def load_tokenizer(start: str | None, vocabulary: Path):
    """The tokenizer of the weights that a run goes on from, else the run's own in the file `vocabulary`.

    Raises:
        UserError: it cannot be loaded, or knows no end of a text.
    """
    if not start:
        return for_training(vocabulary)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(start)
    except (OSError, ValueError) as error:
        raise cannot_load(start, error) from None
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer of {start} has no end token")
    if tokenizer.pad_token_id is None:  # GPT-2: padding is masked by position, so any token serves
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def new_model(settings, tokenizer):
    """A model with random weights, or the one in `settings.start` with the settings' dropout in force.

    Raises:
        UserError: the weights to go on from cannot be loaded, or belong to another architecture or tokenizer.
    """
    from transformers import GPT2LMHeadModel, T5ForConditionalGeneration

    kind = {"t5": T5ForConditionalGeneration, "gpt2": GPT2LMHeadModel}[settings.architecture]
    if not settings.start:
        config = {"t5": _t5_config, "gpt2": _gpt2_config}[settings.architecture](settings, tokenizer)
        return kind(config)
    changes = _dropout(settings) if settings.dropout is not None else {}
    try:
        model = kind.from_pretrained(settings.start, **changes)
    except (OSError, ValueError, RuntimeError) as error:
        raise cannot_load(settings.start, error) from None
    if model.config.model_type != settings.architecture:
        raise UserError(f"{settings.start} is a {model.config.model_type}, not a {settings.architecture}")
    now = fingerprints(tokenizer.backend_tokenizer, settings.template)
    if stored := getattr(model.config, "fingerprints", None):  # ours
        check_fingerprints(stored, {"tokenizer": now["tokenizer"]}, settings.start)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise UserError(f"the tokenizer of {settings.start} has more tokens than the model has embeddings")
    return model


def cannot_load(start: str | Path, error: Exception) -> UserError:
    """What to say of weights that `from_pretrained` refuses."""
    return UserError(
        f"cannot load {start}: {str(error).splitlines()[0][:160]}; "
        "give a folder in transformers' format, or a hub name where the hub can be reached"
    )


def _dropout(settings) -> dict[str, float]:
    """Under the names that each config really reads: set on a loaded config, dropout changes nothing."""
    names = {"t5": ["dropout_rate"], "gpt2": ["resid_pdrop", "embd_pdrop", "attn_pdrop"]}[settings.architecture]
    return dict.fromkeys(names, settings.dropout)


def _t5_config(settings, tokenizer):
    from transformers import T5Config

    return T5Config(
        vocab_size=len(tokenizer),
        d_model=settings.d_model,
        d_kv=settings.d_model // settings.num_heads,
        d_ff=settings.d_ff,
        num_layers=settings.encoder_layers,
        num_decoder_layers=settings.decoder_layers,
        num_heads=settings.num_heads,
        feed_forward_proj="relu",
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        **_dropout(settings),
    )


def _gpt2_config(settings, tokenizer):
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=settings.max_tokens,
        n_embd=settings.d_model,
        n_inner=settings.d_ff,
        n_layer=settings.decoder_layers,
        n_head=settings.num_heads,
        initializer_range=settings.d_model**-0.5,  # 0.02 is made for widths of 768 and more: attention starts flat
        activation_function="gelu_pytorch_tanh",  # the same function as gelu_new in one step
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **_dropout(settings),
    )


def export(model: Path, target: Path, card: dict) -> None:
    """Write the CTranslate2 int8 folder that `CommentWriter` reads: model, tokenizer and card.

    Args:
        model: a folder in transformers' format with its tokenizer.
        card: `architecture`, `template`, `styles` by language and `eos`; the fingerprints are added.
    """
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoTokenizer

    TransformersConverter(str(model)).convert(str(target), quantization="int8", force=True)
    tokenizer = AutoTokenizer.from_pretrained(model).backend_tokenizer
    tokenizer.save(str(target / "tokenizer.json"))
    prints = fingerprints(tokenizer, card["template"])
    (target / CARD).write_text(json.dumps({**card, "fingerprints": prints}, indent=1) + "\n", "utf-8")
