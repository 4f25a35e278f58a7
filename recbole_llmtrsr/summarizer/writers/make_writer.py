"""Factory: the writer that the option ``summarizer`` names, and the registry of the user's writers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.errors import UserError, did_you_mean
from recbole_llmtrsr.llm.loading.gguf_file import GGUF, PACKAGED, is_gguf_name
from recbole_llmtrsr.summarizer.writers.extractive import ExtractiveWriter
from recbole_llmtrsr.summarizer.writers.llm_writer import LLMWriter
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter

if TYPE_CHECKING:
    import torch

    from recbole_llmtrsr.llm.generators.generation import TextGenerator
    from recbole_llmtrsr.prompt.templates import Templates

EXTRACTIVE, FILE, SERVER = "extractive", "file:", "openai:"
_VLLM = "vllm:"  # prefix that earlier releases accepted

_registered: dict[str, Callable[[ItemText], SummaryWriter]] = {}


def register_writer(name: str, make: Callable[[ItemText], SummaryWriter]) -> None:
    """Register a writer for this process, to be selected with ``summarizer: <name>``.

    Args:
        name: the writer's name, of lower-case letters, digits and _.
        make: function that creates the writer from the item texts.

    Raises:
        UserError: if the name is taken, or could be that of a model or a file.
    """
    taken = (EXTRACTIVE, *PACKAGED, *_registered)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in taken:
        raise UserError(
            f"writer {name!r} cannot be registered: choose a name of lower-case letters, digits and _ that is not taken"
            f" ({', '.join(taken)})"
        )
    _registered[name] = make


def is_local(name: str) -> bool:
    """Whether the name is that of a model that transformers loads in this process."""
    return name != EXTRACTIVE and name not in _registered and not name.startswith((FILE, SERVER, _VLLM))


def make_writer(
    settings: SummarySettings,
    item_text: ItemText,
    templates: Templates,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    trust_remote_code: bool = False,
) -> SummaryWriter:
    """Create the writer that ``summarizer`` names; it loads weights or sends requests only at its first job.

    Args:
        settings: settings of the summaries.
        item_text: texts of the items.
        templates: wording of an LLM's prompts.
        device: device of a local LLM.
        dtype: data type of a local LLM's weights.
        trust_remote_code: whether to run model code that comes with an LLM.

    Raises:
        UserError: if the name is neither a writer nor a model, or if the model cannot be loaded.
    """
    if settings.summarizer == EXTRACTIVE:
        return ExtractiveWriter(item_text)
    if settings.summarizer in _registered:
        return _registered[settings.summarizer](item_text)
    check_summarizer(settings)
    generator: TextGenerator
    # Imported here, because transformers takes seconds to load and the extractive writer does not need it.
    if settings.summarizer.startswith(SERVER):
        from recbole_llmtrsr.llm.generators.server import DEFAULT_CONTEXT, ServerGenerator
        from recbole_llmtrsr.llm.generators.server_client import parse_server

        generator = ServerGenerator(
            *parse_server(settings.summarizer),
            api_key=os.environ.get(settings.summarizer_api_key_variable),
            concurrency=settings.summarizer_concurrency,
            timeout=settings.summarizer_timeout,
            retries=settings.summarizer_retries,
            request=settings.summarizer_request,
            context=settings.summarizer_context or DEFAULT_CONTEXT,
        )
    else:
        from recbole_llmtrsr.llm.generators.local import TransformersGenerator

        generator = TransformersGenerator(
            settings.summarizer,
            dtype=dtype,
            device=device,
            batch_size=settings.summarizer_batch_size,
            trust_remote_code=trust_remote_code,
        )
    return LLMWriter(generator, templates, settings.summarizer_max_new_tokens)


def check_summarizer(settings: SummarySettings) -> None:
    """Refuse an invalid name before any work, and before it can appear in a log.

    Raises:
        UserError: if the name is not that of a writer, model, server or file.
    """
    name = settings.summarizer
    if name in _registered:
        return
    if name.startswith(SERVER):
        from recbole_llmtrsr.llm.generators.server_client import parse_server

        parse_server(name)
    elif name.startswith(FILE):
        path = Path(name.removeprefix(FILE)).expanduser()
        if not path.is_file():
            raise UserError(
                f"summarizer: there is no file {path}: give the path of a file of JSON lines after '{FILE}'"
            )
    elif name.startswith(_VLLM):
        model = name.removeprefix(_VLLM) or "<model>"
        raise UserError(
            f"summarizer '{name}': vLLM is supported as a server: start it with `vllm serve {model}`, install"
            f' `pip install "recbole_llmtrsr[server]"`, and set `summarizer: {SERVER}{model}@http://localhost:8000/v1`'
        )
    elif name != EXTRACTIVE:
        _check_name(name)


def _check_name(name: str) -> None:
    if ("/" in name and "://" not in name) or name[:1] in (".", "~") or Path(name).is_dir() or is_gguf_name(name):
        return
    name = name.partition("://")[0]  # the rest of a URL can contain a password
    hint = did_you_mean(name.lower(), [EXTRACTIVE, *PACKAGED, *_registered, FILE, SERVER])
    raise UserError(
        f"summarizer must be '{EXTRACTIVE}', '{', '.join(PACKAGED)}', a model of the hub as 'organisation/model', an"
        f" existing folder, a {GGUF} file,"
        f" '{SERVER}<model>@<base url>', '{FILE}<path>' or a writer that an imported file registers,"
        f" got {name!r}{hint}"
    )
