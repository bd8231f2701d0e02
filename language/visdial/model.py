"""Dialog models: loaded for training with LoRA, loaded for use, and merged.

    python -m language.visdial.model merge runs/visdial/gemma3_4b models/gemma3_4b_visdial

A merged model is a folder of its own that `transformers` loads without this repository.
"""

import argparse
import difflib
import sys
from pathlib import Path

from pydantic import Field

from common.devices import QUANTIZED, best_device, loading_options
from common.errors import UserError, exit_with
from configs.load import Settings

TOWERS = {"vision": "vision_tower", "language": "language_model"}  # switch -> part of the model
KINDS = {"attention": "self_attn", "mlp": "mlp"}
ADAPTER = "adapter_config.json"


class LoraSettings(Settings):
    """Which modules get low-rank weights, and how large (https://arxiv.org/abs/2106.09685)."""

    vision: bool = True  # these four are the original's: modules in a tower that is on and of a kind that is on
    language: bool = True
    attention: bool = True
    mlp: bool = True
    modules: list[str] = []  # more modules by name, as `o_proj` or `language_model.layers.3.mlp.up_proj`
    r: int = Field(16, ge=1)
    alpha: int = Field(16, ge=1)
    dropout: float = Field(0, ge=0, lt=1)


def target_modules(model, lora: LoraSettings) -> list[str]:
    """The names of the linear modules that the settings mean.

    Raises:
        UserError: a named module is unknown (near names are told), or none is meant.
    """
    import torch

    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    towers = {part for switch, part in TOWERS.items() if getattr(lora, switch)}
    kinds = {part for switch, part in KINDS.items() if getattr(lora, switch)}
    meant = [name for name in linear if towers & set(name.split(".")) and kinds & set(name.split("."))]
    for wanted in lora.modules:
        same = [name for name in linear if name == wanted or name.endswith(f".{wanted}")]
        if not same:
            known = sorted({name.split(".")[-1] for name in linear} | set(linear))
            near = difflib.get_close_matches(wanted, known, 3) or sorted({name.split(".")[-1] for name in linear})
            raise UserError(f"lora.modules: the model has no {wanted}; near or allowed are {', '.join(near)}")
        meant += [name for name in same if name not in meant]
    if not meant:
        raise UserError("lora means no module: switch on vision or language, and attention or mlp, or name modules")
    return meant


def base_model(name: str, precision: str):
    """A published model and its processor, from a folder or a hub name.

    Raises:
        UserError: there is no such model, it cannot see or chat, or the precision needs a GPU.
    """
    from transformers import AutoModelForImageTextToText

    device = best_device()
    options = loading_options(precision, device, half="bf16")
    try:
        model = AutoModelForImageTextToText.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the model {name}: {' '.join(str(error).split())[:300]}") from error
    return model if precision in QUANTIZED else model.to(device), load_processor(name)


def load_processor(name: str):
    """What makes chats and photos into tensors.

    Raises:
        UserError: there is none, or it has no chat template or reads no photos.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the processor of {name}: {' '.join(str(error).split())[:300]}") from error
    if not getattr(processor, "chat_template", None) or not hasattr(processor, "full_image_sequence"):
        raise UserError(f"{name} is no Gemma-3 that sees and chats; take google/gemma-3-4b-it or one made from it")
    return processor


def with_lora(model, lora: LoraSettings, seed: int):
    """The model with low-rank weights beside its frozen ones; they start out changing nothing."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    targets = target_modules(model, lora)
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # the trainer switches it on
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def unsloth_model(name: str, precision: str, lora: LoraSettings, seed: int, max_tokens: int):
    """The same by unsloth, which trains faster on one NVIDIA GPU.

    Raises:
        UserError: it is not installed, or is asked for what it cannot do.
    """
    if lora.modules:
        raise UserError("lora.modules works with backend=transformers only; unsloth knows the four switches")
    try:
        from unsloth import FastVisionModel
    except (ImportError, NotImplementedError) as error:  # the second where there is no GPU
        reason = " ".join(str(error).split())[:100]
        told = f"backend=unsloth needs unsloth and an NVIDIA GPU ({reason}); backend=transformers does not"
        raise UserError(told) from error
    model, processor = FastVisionModel.from_pretrained(
        name, load_in_4bit=precision == "4bit", load_in_8bit=precision == "8bit", max_seq_length=max_tokens
    )
    model = FastVisionModel.get_peft_model(
        model,
        finetune_vision_layers=lora.vision,
        finetune_language_layers=lora.language,
        finetune_attention_modules=lora.attention,
        finetune_mlp_modules=lora.mlp,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias="none",
        random_state=seed,
        use_rslora=False,
    )
    FastVisionModel.for_training(model)
    return model, processor


def load(name: str, precision: str = "auto"):
    """A model for use and its processor: a run's folder or its `best`, a merged model, or a published one.

    Raises:
        UserError: see `base_model`.
    """
    folder = adapter_folder(Path(name))
    if folder is None:
        model, processor = base_model(name, precision)
        return model.eval(), processor
    from peft import PeftConfig, PeftModel

    base, _ = base_model(PeftConfig.from_pretrained(str(folder)).base_model_name_or_path, precision)
    return PeftModel.from_pretrained(base, str(folder)).eval(), load_processor(str(folder))


def adapter_folder(folder: Path) -> Path | None:
    """Where a run's low-rank weights lie: in it, or in its `best`."""
    return next((place for place in (folder, folder / "best") if (place / ADAPTER).is_file()), None)


def merge(run: Path, out: Path, precision: str = "auto") -> Path:
    """Write the model with its low-rank weights added to the others, and the processor.

    Raises:
        UserError: the run holds no low-rank weights, the folder holds files already, or see `base_model`.
    """
    if adapter_folder(run) is None:
        raise UserError(f"{run} is no finished run: neither it nor its `best` holds {ADAPTER}")
    if precision in QUANTIZED:
        raise UserError(f"a merged model is not saved in {precision}; fp32, bf16, fp16 and auto work")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already; name a new folder")
    model, processor = load(str(run), precision)
    part = out.with_name(f"{out.name}.part")
    model.merge_and_unload().save_pretrained(str(part))
    processor.save_pretrained(str(part))
    if out.exists():
        out.rmdir()
    return part.replace(out)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.visdial.model", description=__doc__.split("\n")[0])
    merging = parser.add_subparsers(required=True, metavar="merge").add_parser("merge", help="write a merged model")
    merging.add_argument("run", type=Path, help="folder of a finished run")
    merging.add_argument("out", type=Path, help="new folder for the merged model")
    merging.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"], help="of its weights")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    print(merge(args.run, args.out, args.precision))
    return 0


if __name__ == "__main__":
    exit_with(main)
