"""Captioners: put together from an encoder and a decoder, frozen by readable names, saved and loaded."""

from difflib import get_close_matches
from pathlib import Path

from common.devices import best_device
from common.errors import UserError
from language.comment.models import cannot_load

GPT2_DROPOUT = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
LAST_BLOCK = ["decoder.transformer.h.-1", "decoder.transformer.ln_f", "decoder.lm_head"]
CROSS_ATTENTION = ["decoder.transformer.h.*.crossattention", "decoder.transformer.h.*.ln_cross_attn"]
PROJECTION = "enc_to_dec_proj"  # is there where encoder and decoder differ in width
UNREAD = "encoder.pooler."  # a captioner reads all tokens, never the pooled one


def load_captioner(source: str | Path):
    """A captioner ready to write: (model on the best device here, tokenizer, image processor).

    Args:
        source: a folder that training wrote (`<run>/best`), or a hub name.

    Raises:
        UserError: it cannot be loaded.
    """
    from transformers import AutoImageProcessor, AutoTokenizer, VisionEncoderDecoderModel

    import language.caption.trunk  # noqa: F401  (registers its classes)

    try:
        model = VisionEncoderDecoderModel.from_pretrained(source)
        tokenizer, processor = AutoTokenizer.from_pretrained(source), AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        raise cannot_load(source, error) from None
    return model.eval().to(best_device()), tokenizer, processor


def build(settings, tokenizer):
    """The captioner that a run starts from.

    Returns:
        (model, image processor, names of the parameters that no checkpoint held: they are random).

    Raises:
        UserError: a part cannot be loaded, or does not fit the tokenizer or `max_tokens`.
    """
    from transformers import AutoImageProcessor, VisionEncoderDecoderModel

    import language.caption.trunk  # noqa: F401

    if settings.start:
        model, new = _load(VisionEncoderDecoderModel, settings.start, **_dropout_of_start(settings))
    else:
        encoder, new_encoder = _encoder(settings)
        decoder, new_decoder = _decoder(settings, tokenizer)
        model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
        between = {name for name, _ in model.named_parameters() if not name.startswith(("encoder.", "decoder."))}
        new = {f"encoder.{n}" for n in new_encoder} | {f"decoder.{n}" for n in new_decoder} | between
    _fit(model, settings, tokenizer)
    if settings.encoder == "trunk":
        return model, _trunk_processor(settings.image_size), new
    try:
        return model, AutoImageProcessor.from_pretrained(settings.start or settings.encoder), new
    except (OSError, ValueError) as error:
        raise cannot_load(settings.start or settings.encoder, error) from None


def _encoder(settings):
    from transformers import AutoModel

    if settings.encoder != "trunk":
        return _load(AutoModel, settings.encoder)
    from language.caption.trunk import load_trunk

    return load_trunk(settings.trunk_weights, settings.trunk_layers, settings.trunk_classes), set()


def _decoder(settings, tokenizer):
    """The decoder with cross attention, and the names of its random parameters."""
    from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

    crossed = {"is_decoder": True, "add_cross_attention": True}
    dropout = {} if settings.dropout is None else dict.fromkeys(GPT2_DROPOUT, settings.dropout)
    if not settings.decoder:
        config = GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=settings.max_tokens,
            n_embd=settings.width,
            n_layer=settings.layers,
            n_head=settings.heads,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=settings.width**-0.5,  # 0.02 is made for widths of 768 and more: attention starts flat
            **dropout,
            **crossed,
        )
        decoder = GPT2LMHeadModel(config)
        return decoder, {name for name, _ in decoder.named_parameters()}
    try:
        config = AutoConfig.from_pretrained(settings.decoder, **crossed, **dropout)
    except (OSError, ValueError) as error:
        raise cannot_load(settings.decoder, error) from None
    return _load(AutoModelForCausalLM, settings.decoder, config=config)


def _load(kind, source: str, **more):
    """(model, names of the parameters that its checkpoint did not hold)."""
    try:
        model, info = kind.from_pretrained(source, output_loading_info=True, **more)
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        raise cannot_load(source, error) from None
    return model, set(info["missing_keys"])


def _dropout_of_start(settings) -> dict:
    """A whole captioner's config with the settings' dropout in its decoder: set after loading it changes nothing."""
    from transformers import AutoConfig

    if settings.dropout is None:
        return {}
    try:
        config = AutoConfig.from_pretrained(settings.start)
    except (OSError, ValueError) as error:
        raise cannot_load(settings.start, error) from None
    config.decoder.update(dict.fromkeys(GPT2_DROPOUT, settings.dropout))
    return {"config": config}


def _fit(model, settings, tokenizer) -> None:
    """Check sizes, and tell the model which tokens start, end and pad a caption."""
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise UserError("the tokenizer has more tokens than the decoder has embeddings")
    longest = getattr(model.decoder.config, "max_position_embeddings", None)
    if longest and settings.max_tokens > longest:
        raise UserError(f"max_tokens {settings.max_tokens} is more than the decoder's {longest} positions")
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids |= {"bos_token_id": start, "decoder_start_token_id": start}
    for config in (model.config, model.generation_config):
        for name, value in ids.items():
            setattr(config, name, value)
    # its forward takes any argument, so the Trainer would believe that it divides its loss by the tokens of all
    # accumulated batches; it does not
    model.accepts_loss_kwargs = False


def _trunk_processor(side: int):
    from transformers import ViTImageProcessor

    return ViTImageProcessor(size={"height": side, "width": side}, do_normalize=False)  # 0..1, as detectors want it


def freeze(model, train: str | list[str], new: set[str], allow_frozen_new: bool) -> dict[str, int]:
    """Let only the named modules learn.

    Args:
        train: `all`, `last_block`, `last_block+cross_attention`, or paths of modules: `decoder.transformer.h.-1` is
            the last block, `decoder.transformer.h.*.crossattention` the cross attention of every block.
        new: parameters that no checkpoint held.

    Returns:
        How many parameters there are, `total` and `trainable`; what two modules share counts once.

    Raises:
        UserError: a path names no module, or a random parameter would stay as it is.
    """
    chosen = [model] if train == "all" else [m for path in _paths(model, train) for m in _modules(model, path)]
    model.requires_grad_(False)
    for module in chosen:
        module.requires_grad_(True)
    frozen = sorted(n for n in new if not n.startswith(UNREAD) and not model.get_parameter(n).requires_grad)
    if frozen and not allow_frozen_new:
        raise UserError(
            f"train: {train} freezes {len(frozen)} newly initialised weights, which would stay random (the first: "
            f"{frozen[0]}); use train=last_block+cross_attention, name their modules, or allow_frozen_new=true"
        )
    count = lambda parameters: sum(p.numel() for p in parameters)
    return {
        "total": count(model.parameters()),
        "trainable": count(p for p in model.parameters() if p.requires_grad),
        "frozen_new": len(frozen),
    }


def _paths(model, train: str | list[str]) -> list[str]:
    if not isinstance(train, str):
        return train
    kind = model.decoder.config.model_type
    if kind != "gpt2":
        raise UserError(f"train: {train} is known for GPT-2 decoders, but this one is a {kind}; list modules instead")
    if train == "last_block":
        return LAST_BLOCK
    return [*LAST_BLOCK, *CROSS_ATTENTION, *([PROJECTION] if hasattr(model, PROJECTION) else [])]


def _modules(model, path: str) -> list:
    """The modules that a path stands for: parts are names, indexes (from the end where negative), or `*`.

    Raises:
        UserError: names what is there.
    """
    found, done = [model], []
    for part in path.split("."):
        inside = dict(found[0].named_children())
        names = list(inside)
        if part.lstrip("-").isdigit() and part.startswith("-") and int(part) >= -len(names):
            part = names[int(part)]
        if part != "*" and part not in inside:
            near = get_close_matches(part, names, 3, 0.3) or (names if len(names) < 8 else [names[0], "…", names[-1]])
            where = ".".join(done) or "the model"
            raise UserError(f"train: {path} names no module: {where} has no {part!r}; near: {', '.join(near) or '-'}")
        found = [m for module in found for name, m in module.named_children() if part in ("*", name)]
        done.append(part)
    return found
