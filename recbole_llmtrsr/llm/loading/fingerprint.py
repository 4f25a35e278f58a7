"""Fingerprint of a model's content, so that a run never reuses summaries or embeddings of another model."""

from __future__ import annotations

import os
from functools import cache
from hashlib import blake2b
from pathlib import Path

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.loading.gguf_file import gguf_file, is_gguf_name

DIGEST_BYTES = 16
SAMPLES = 256  # per weight file, the first and the last bytes among them
SAMPLE_BYTES = 4096
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
GGUF_VERSION = 1  # increase it with every change of ``from_gguf``, so that converted files are not reused
GGUF_HEADER_BYTES = 64 * 2**20  # of a GGUF file, with its vocabulary and chat template, which may differ in a few bytes
# Configurations, vocabularies, merges, SentencePiece models, chat templates, and code that comes with a model.
WHOLE = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".vocab", ".py")
TEMPLATES = "additional_chat_templates"


def model_fingerprint(path: str) -> str:
    """Fingerprint of the content of a folder or GGUF file; for a name on the hub, the commit in the local cache.

    A cached model's files are not read, as the cache holds only those that were needed so far, perhaps not yet the
    weights; the commit identifies the content of all.
    """
    if os.path.isdir(path):
        return fingerprint(Path(path))
    if is_gguf_name(path):
        file = gguf_file("model", path)
        return _gguf_fingerprint(file, file.stat().st_size, file.stat().st_mtime_ns)
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(path, "config.json")
    if not isinstance(config, str):
        raise UserError(
            f"model {path!r} has no config.json in the local cache, which identifies its version: download the model"
            " into a folder and use that folder"
        )
    return f"commit {Path(config).parent.name}"


def fingerprint(folder: Path) -> str:
    """Identify a model folder by its content, not by its path, times or order of files.

    Configurations, tokenizer files and chat templates are hashed completely, weight files by size and `SAMPLES` evenly
    spaced samples. This is fast at any size and sufficient, as fine-tuning changes nearly all bytes of a layer.

    Raises:
        UserError: there are no weights.
    """
    files = sorted(
        (file.relative_to(folder).as_posix(), file)
        for part in (folder, folder / TEMPLATES)
        if part.is_dir()
        for file in part.iterdir()
        if file.is_file() and file.suffix in WEIGHTS + WHOLE
    )
    if not any(file.suffix in WEIGHTS for _, file in files):
        raise UserError(
            f"model folder '{folder}' has no weights (*.safetensors or *.bin): save them there with"
            " `model.save_pretrained`, or download the model again"
        )
    whole = blake2b(digest_size=DIGEST_BYTES)
    for name, file in files:
        content = _sampled(file) if file.suffix in WEIGHTS else file.read_bytes()
        whole.update(f"{name}\n{file.stat().st_size}\n".encode())
        whole.update(blake2b(content, digest_size=DIGEST_BYTES).digest())
    return whole.hexdigest()


@cache
def _gguf_fingerprint(file: Path, size: int, changed: int) -> str:
    """Identify a GGUF file by its content: its beginning completely, and samples of the weights.

    Args:
        file: the file.
        size: in bytes.
        changed: time of its last change, after which it is read again.
    """
    whole = blake2b(f"{size}\n".encode(), digest_size=DIGEST_BYTES)
    with file.open("rb") as stream:
        whole.update(stream.read(GGUF_HEADER_BYTES))
    whole.update(_sampled(file))
    return f"gguf {GGUF_VERSION} {whole.hexdigest()}"


def _sampled(file: Path) -> bytes:
    """Evenly spaced samples of a file; the whole file if it is no longer than the samples together."""
    size = file.stat().st_size
    if size <= SAMPLES * SAMPLE_BYTES:
        return file.read_bytes()
    step = (size - SAMPLE_BYTES) / (SAMPLES - 1)
    samples = []
    with file.open("rb", buffering=0) as stream:
        for number in range(SAMPLES):
            stream.seek(round(number * step))
            samples.append(stream.read(SAMPLE_BYTES))
    return b"".join(samples)
