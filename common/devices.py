"""Where a model of `transformers` runs on this machine, and in which precision its weights are loaded."""

import os

from common.errors import UserError

QUANTIZED = ("8bit", "4bit")  # placed on the GPU while they load


def best_device() -> str:
    """cuda, mps or cpu."""
    import torch

    if os.environ.get("CUDA_VISIBLE_DEVICES") != "" and torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def loading_options(precision: str, device: str, half: str = "fp16") -> dict:
    """What `from_pretrained` takes for a precision: fp32, fp16, bf16, 8bit, 4bit, or auto (`half` on a GPU).

    Args:
        half: what quantized weights are computed in, too; a model made in bf16 may overflow in fp16, as Gemma-3 does.

    Raises:
        UserError: it needs an NVIDIA GPU, or bitsandbytes, and there is none.
    """
    import torch

    types = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if precision in QUANTIZED:
        from transformers import BitsAndBytesConfig
        from transformers.utils import is_bitsandbytes_available

        if device != "cuda":
            raise UserError(f"{precision} weights need an NVIDIA GPU; without one, fp32 or bf16 works")
        if not is_bitsandbytes_available():
            raise UserError(f"{precision} weights need bitsandbytes; install it (pip install bitsandbytes)")
        quantized = BitsAndBytesConfig(
            load_in_8bit=precision == "8bit",
            load_in_4bit=precision == "4bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=types[half],
        )
        # each process of a distributed training has a GPU of its own
        return {"quantization_config": quantized, "device_map": {"": int(os.environ.get("LOCAL_RANK", 0))}}
    if precision == "auto":
        precision = "fp32" if device == "cpu" else half
    return {"dtype": types[precision]}
