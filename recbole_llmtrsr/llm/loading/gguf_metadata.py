"""What transformers does not read from a GGUF file: how texts are split, and how positions are rescaled."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

if TYPE_CHECKING:
    from gguf import GGUFReader

# Byte-level vocabularies by `tokenizer.ggml.pre`: those whose merges never join digits, and those that split texts as
# GPT-2 does. transformers knows others.
_SINGLE_DIGITS = frozenset(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"))
_AS_GPT2 = frozenset(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat"))
# Those that take a word that is a token whole, and begin a text with a token unless the file says otherwise.
_WHOLE_WORDS = frozenset(
    ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "tekken")
)
# A GGUF file holds what they result in, beside the factor.
_LLAMA3_ROTATION = {
    **{"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "original_max_position_embeddings": 8192,
}


def value(reader: GGUFReader, key: str) -> object:
    """The value of a key; None where the file does not have it."""
    field = reader.get_field(key)
    return None if field is None else field.contents()


def encode_as_trained(tokenizer: PreTrainedTokenizerBase, reader: GGUFReader) -> list[str]:
    """Complete a byte-level tokenizer by what follows from the name of its kind, as in llama.cpp; return warnings."""
    pre = value(reader, "tokenizer.ggml.pre")
    if pre in _SINGLE_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif pre in _WHOLE_WORDS:
        tokenizer.backend_tokenizer.model.ignore_merges = True
        tokenizer.add_bos_token = value(reader, "tokenizer.ggml.add_bos_token") in (None, True)
    if pre not in _SINGLE_DIGITS.union(_AS_GPT2, _known_splits()):
        return [
            f"transformers {transformers.__version__} does not know how its tokenizer splits texts"
            f" (tokenizer.ggml.pre {pre!r}) and splits as GPT-2 does, so that some texts may be encoded otherwise than"
            " in training: use the transformers folder of this model to be sure"
        ]
    return []


def splits_otherwise(tokenizer: PreTrainedTokenizerBase, folder: Path) -> list[str]:
    """Warn of a tokenizer that transformers reads from a folder with other splits than those that were saved there."""
    again = AutoTokenizer.from_pretrained(folder)
    if str(again.backend_tokenizer.pre_tokenizer) == str(tokenizer.backend_tokenizer.pre_tokenizer):  # type: ignore[attr-defined]
        return []
    return [
        f"transformers {transformers.__version__} splits texts as {type(again).__name__} for every model of this"
        " architecture, and the file's tokenizer splits otherwise, so that some texts are encoded otherwise than in"
        " training: use the transformers folder or a GGUF file of another model to be exact"
    ]


def _known_splits() -> tuple[str, ...]:
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:  # an earlier transformers
        return ()
    return tuple(GGUF_PRE_TOKENIZER_SPLITS)


def read_rotation(config: PretrainedConfig, reader: GGUFReader, architecture: str) -> list[str]:
    """Add the rescaling of positions of Llama 3.1 and later to a configuration; return a warning of any other."""
    if architecture == "gpt-oss":  # the only one of which transformers reads it
        return []
    scaling = value(reader, f"{architecture}.rope.scaling.type")
    factors_without_type = (value(reader, f"{architecture}.rope.{key}") for key in ("scaling.factor", "scale_linear"))
    if scaling is None and any(factor not in (None, 0, 1) for factor in factors_without_type):
        scaling = "linear"  # as in llama.cpp
    tensors = {tensor.name: tensor.data for tensor in reader.tensors if tensor.name.startswith("rope_")}
    if scaling in (None, "none") and not tensors:
        return []
    if (factors := tensors.get("rope_freqs.weight")) is not None and scaling in (None, "none"):
        rotation = {**config.rope_parameters, **_LLAMA3_ROTATION, "factor": float(factors.max())}
        divisors = _divisors(config, rotation)
        if divisors.shape == factors.shape and np.allclose(divisors, factors, rtol=1e-4):
            config.rope_parameters = rotation
            return []
    return [
        f"its positions are rescaled for long texts ({', '.join(tensors) or scaling}), which transformers"
        " does not read from a GGUF file, so that scores differ from those of the original: use the transformers folder"
        " of this model to be exact"
    ]


def _divisors(config: PretrainedConfig, rotation: dict[str, Any]) -> npt.NDArray[np.float32]:
    """By what a rescaling divides the frequencies of the rotation. [head width / 2]"""
    scaled = deepcopy(config)
    scaled.rope_parameters = rotation
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](scaled, "cpu")
    powers = np.arange(len(frequencies)) / len(frequencies)
    divisors: npt.NDArray[np.float32] = rotation["rope_theta"] ** -powers / frequencies.numpy()
    return divisors
