"""Converts GGUF files, the format of llama.cpp, once into folders that transformers loads as fast as any other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from logging import getLogger
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
import transformers
from filelock import FileLock
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.loading.fingerprint import model_fingerprint
from recbole_llmtrsr.llm.loading.gguf_metadata import encode_as_trained, read_rotation, splits_otherwise, value
from recbole_llmtrsr.llm.loading.weights import weights_fault
from recbole_llmtrsr.runtime.atomic_write import draft_name, remove_drafts
from recbole_llmtrsr.runtime.screen import Bar

if TYPE_CHECKING:
    from gguf import GGUFReader

CONVERTED = Path("saved/models")  # beside the other caches
_WARNINGS = "gguf_warnings.json"


def converted(file: Path, source: str, dtype: torch.dtype | None = None) -> Path:
    """The folder with the content of a GGUF file, made by the first process that needs it.

    Args:
        file: the GGUF file; its content, not its path, identifies the folder.
        source: the option and the name that it has there, for messages.
        dtype: number format of the weights; None leaves them out, which takes a fraction of the time.

    Raises:
        UserError: the file is damaged or of an unsupported architecture, the package gguf is missing, or the folder
            cannot be written.
    """
    release = transformers.__version__.replace(".", "-")  # which decides what is read of the file
    folder = CONVERTED / f"{model_fingerprint(str(file)).replace(' ', '-')}-{release}"
    if dtype is None:
        _made_once(folder, lambda draft: _write_without_weights(file, source, draft))
    else:
        folder = folder.with_name(f"{folder.name}-{str(dtype).removeprefix('torch.')}")
        _made_once(folder, lambda draft: _write_with_weights(file, source, draft, dtype))
    if (warnings := folder / _WARNINGS).is_file():
        for warning in json.loads(warnings.read_text(encoding="utf-8")):
            _warn_once(f"{source}: {warning}")
    return folder


@cache
def _warn_once(message: str) -> None:
    getLogger().warning(message)


def _made_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Let one process write a folder while the others wait; the folder is complete as soon as it exists."""
    if folder.is_dir():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                remove_drafts(folder.parent, folder.name)
                _write_atomically(folder, write)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the converted GGUF model cannot be written to {folder} ({error}): free some space there, or make"
            f" {CONVERTED} a link to a folder that can be written"
        ) from error


def _write_atomically(folder: Path, write: Callable[[Path], None]) -> None:
    draft = draft_name(folder)
    draft.mkdir()
    mode = draft.stat().st_mode & 0o666
    try:
        write(draft)
        for path in (path for path in draft.rglob("*") if path.is_file()):
            os.chmod(path, mode)  # safetensors lets only the user read its files
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_without_weights(file: Path, source: str, folder: Path) -> None:
    reader = _read(file, source)
    getLogger().info(f"{source}: its vocabulary is converted, once for this and later runs")
    architecture = str(value(reader, "general.architecture"))
    _refuse_parts(reader, source)
    try:
        with _alone(file) as view:
            config = AutoConfig.from_pretrained(view, gguf_file=file.name)
            config.architectures = [_architecture(config, reader, architecture)]
            tokenizer = AutoTokenizer.from_pretrained(view, gguf_file=file.name)
    except Exception as error:  # transformers raises nearly every kind for metadata that it does not expect
        raise UserError(f"{source}: {_metadata_fault(architecture, error)}") from error
    warnings = encode_as_trained(tokenizer, reader) if value(reader, "tokenizer.ggml.model") == "gpt2" else []
    warnings += read_rotation(config, reader, architecture)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    warnings += splits_otherwise(tokenizer, folder)
    if warnings:
        (folder / _WARNINGS).write_text(json.dumps(warnings), encoding="utf-8")
    if config.architectures[0].endswith(("ForCausalLM", "LMHeadModel")):
        GenerationConfig.from_model_config(config).save_pretrained(folder)


def _write_with_weights(file: Path, source: str, folder: Path, dtype: torch.dtype) -> None:
    head = converted(file, source)
    _require_package(source)
    getLogger().info(f"{source}: its weights are converted to {dtype} in {CONVERTED}, once for this and later runs")
    config = AutoConfig.from_pretrained(head)
    model_class: Any = getattr(transformers, config.architectures[0])
    options: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):  # else some architectures stay packed, which cannot be trained
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        with (
            _alone(file) as view,
            # which always shows its own
            mock.patch("transformers.modeling_gguf_pytorch_utils.tqdm", Bar, create=True),
        ):
            model, loading = model_class.from_pretrained(
                view, gguf_file=file.name, config=config, dtype=dtype, output_loading_info=True, **options
            )
        fault = weights_fault(model, loading)
    except Exception as error:
        fault = f"its weights cannot be read ({_reason(error)}): download the file again, or choose another one"
        raise UserError(f"{source}: {fault}") from error
    if fault is not None:
        raise UserError(f"{source}: {fault}")
    # Marks of a quantized model, which transformers refuses to save; the weights are no longer quantized.
    model.config.__dict__.pop("quantization_config", None)
    model.__dict__.pop("hf_quantizer", None)
    shutil.copytree(head, folder, dirs_exist_ok=True)
    model.save_pretrained(folder)


@contextmanager
def _alone(file: Path) -> Iterator[Path]:
    """Yield a folder that holds nothing but the file, as transformers also reads an adapter that lies beside it."""
    with TemporaryDirectory() as view:
        Path(view, file.name).symlink_to(file.resolve())
        yield Path(view)


def _read(file: Path, source: str) -> GGUFReader:
    try:
        with file.open("rb") as stream:
            begin = stream.read(4)
    except OSError as error:
        raise UserError(f"{source} cannot be read ({error}): give the path of a GGUF file that can be read") from error
    if begin != b"GGUF":
        raise UserError(f"{source} is not a GGUF file (it begins with {begin!r}, not b'GGUF'): give another file")
    _require_package(source)
    from gguf import GGUFReader

    try:
        return GGUFReader(file)
    except Exception as error:  # numpy's, of the place where the bytes make no sense
        raise UserError(
            f"{source} is damaged or incomplete: its {file.stat().st_size:,} bytes are not the content that its header"
            f" states ({_reason(error)}): download it again"
        ) from error


def _require_package(source: str) -> None:
    if find_spec("gguf") is None:
        raise UserError(f'{source} is a GGUF file, which needs the package gguf: pip install "recbole_llmtrsr[gguf]"')


def _metadata_fault(architecture: str, error: Exception) -> str:
    version, remedy = f"transformers {transformers.__version__}", "the transformers folder of this model"
    if "not supported" not in str(error):
        return f"{version} cannot read its metadata ({_reason(error)}): download the file again, or give {remedy}"
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    supported = sorted({*GGUF_SUPPORTED_ARCHITECTURES} - {"general", "tokenizer"})
    return (
        f"{version} does not read GGUF files of architecture {architecture!r}: give {remedy}, or a GGUF file of"
        f" {', '.join(supported)}"
    )


def _refuse_parts(reader: GGUFReader, source: str) -> None:
    kind, n_parts = value(reader, "general.type"), value(reader, "split.count")
    if kind not in (None, "model"):
        raise UserError(f"{source} is a GGUF file of type {kind!r}, not a model: give the file of the whole model")
    if isinstance(n_parts, int) and n_parts > 1:
        raise UserError(
            f"{source} is one of {n_parts} parts of a model: join them with `llama-gguf-split --merge` of llama.cpp,"
            " and give the joined file"
        )


def _architecture(config: PretrainedConfig, reader: GGUFReader, architecture: str) -> str:
    """Name of the model class. Embedding models, which state how they pool, have no head: the class has none, too."""
    if config.architectures:
        return str(config.architectures[0])
    is_pooled = value(reader, f"{architecture}.pooling_type") not in (None, 0)
    has_head = not is_pooled and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    return str((MODEL_FOR_CAUSAL_LM_MAPPING if has_head else MODEL_MAPPING)[type(config)].__name__)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
