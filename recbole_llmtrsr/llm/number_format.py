"""The number format of weights and activations: fp32 or bf16, on a CPU by measurement."""

from __future__ import annotations

from functools import cache
from logging import getLogger

import torch

from recbole_llmtrsr.config.options import BackboneSettings
from recbole_llmtrsr.llm.builtin import BUILTIN
from recbole_llmtrsr.llm.loading.source import ModelSource
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.device import matrix_product_peak

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
N_TOKENS = 256  # of a measured product
WIDEST = (1024, 4096)  # largest factors of a measured product; processors without bf16 are a hundred times slower
NARROWEST = 256  # hidden size below which products take less time than all else
MARGIN = 1.2  # a format that is faster by less is not preferred, lest chance decide


def model_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Number format of summarizers and text encoders; 'auto' is bf16 on a GPU that supports it."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return FORMATS[precision]


def weights_dtype(options: BackboneSettings, device: torch.device) -> torch.dtype:
    """Number format of the backbone's frozen weights and of autocast.

    On a CPU, 'auto' is the format with the faster matrix product, of the backbone's shapes, if its weights are frozen,
    and fp32 if they are trained or several processes run, which might measure differently. The first call warns of an
    explicit choice that is slower.
    """
    precision = options.precision
    is_auto_fp32 = precision == "auto" and not tunes_lora(options)
    if device.type != "cpu" or processes.count() > 1 or options.backbone == BUILTIN or is_auto_fp32:
        return model_dtype(precision, device)
    faster = _faster(options.backbone, options.trust_remote_code, precision)
    return FORMATS[faster if precision == "auto" else precision]


def autocast(options: BackboneSettings, device: torch.device) -> torch.autocast:
    """The autocast context of training: bf16 if the weights are bf16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=weights_dtype(options, device) == torch.bfloat16)


def tunes_lora(options: BackboneSettings) -> bool:
    """Whether ``tune`` trains LoRA weights and freezes the backbone."""
    return options.tune == "lora" or (options.tune == "auto" and options.backbone != BUILTIN)


@cache
def _faster(backbone: str, trust_remote_code: bool, precision: str) -> str:
    """Name of the faster format, with a message about both; fp32 unless the difference is clear."""
    shape = _shape(backbone, trust_remote_code)
    if shape is None:
        return "fp32"
    cpu = torch.device("cpu")
    speeds = {name: matrix_product_peak(cpu, dtype, shape) or 0.0 for name, dtype in FORMATS.items()}
    faster = "bf16" if speeds["bf16"] > MARGIN * speeds["fp32"] else "fp32"
    measured = " and ".join(f"{speed / 1e9:,.0f} GFLOP/s in {name}" for name, speed in speeds.items())
    found = f"matrix products of the backbone's shapes {shape} take place at {measured} on this processor"
    if precision == "auto":
        getLogger().info(f"precision: auto is {faster}: {found}")
    elif MARGIN * speeds[precision] < max(speeds.values()):
        getLogger().warning(f"precision: {precision} is the slower format: {found}; set precision: {faster} or auto")
    return faster


def _shape(backbone: str, trust_remote_code: bool) -> tuple[int, int, int] | None:
    """Shape of the product of an MLP, as (tokens, inputs, outputs); None for a small backbone."""
    config, _ = ModelSource.find("backbone", backbone, trust_remote_code).load_tokenizer()
    config = config.get_text_config()
    hidden = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    inner = max(inner) if isinstance(inner, list | tuple) else inner  # one for each layer, as of Gemma 3n
    return (N_TOKENS, min(hidden, WIDEST[0]), min(inner, WIDEST[1])) if hidden >= NARROWEST else None
