"""``recbole-llmtrsr export --adapter`` and ``--merged``: the trained language model in a folder, with a model card."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from recbole_llmtrsr.config.settings import Settings
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.llm.builtin import BUILTIN
from recbole_llmtrsr.llm.loading.adapter import has_adapter
from recbole_llmtrsr.llm.loading.gguf_file import is_gguf_name
from recbole_llmtrsr.llm.number_format import tunes_lora
from recbole_llmtrsr.llm.saving import merge_adapter, save_trained
from recbole_llmtrsr.model.language_model_recommender import LanguageModelRecommender, reads_candidates
from recbole_llmtrsr.recommend.model_card import CARD, example_prompt, exported_files, model_card
from recbole_llmtrsr.recommend.saved_run import checkpoint_file, load_saved_run, read_result
from recbole_llmtrsr.registry import MODELS, get_model
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.atomic_write import replace_folder


def export_model(
    run_folder: Path, folder: Path, *, is_adapter: bool, options: dict[str, Any], checkpoint: Path | None
) -> str:
    """Export the language model of a run; the folder appears once it is complete.

    Args:
        run_folder: holds the run's result.json.
        folder: is made, or replaced if an earlier export wrote it.
        is_adapter: export the adapter alone, and not merged into the weights.
        options: what is elsewhere on this machine.
        checkpoint: the run's .pth file, if it was moved.

    Returns:
        what was exported, as a line for the user.

    Raises:
        UserError: the folder cannot be written or holds other files; the run has no language model whose scores are
            log-odds, no adapter, or weights that cannot be merged; or the run cannot be loaded.
    """
    flag = f"--{'adapter' if is_adapter else 'merged'}={folder}"
    if processes.launched() > 1:
        raise UserError("export works in a single process: start it without accelerate launch or torchrun")
    _check_folder(folder, flag)
    result = read_result(run_folder)
    _check_model(run_folder, result["model"])
    checkpoint_file(run_folder, result, checkpoint)  # first: a run without one has neither adapter nor weights
    of_run = {**result["options"], **options}
    _check_base(folder, flag, of_run["backbone"])
    if is_adapter:
        _check_adapter(flag, of_run)
    run = load_saved_run(run_folder, options, checkpoint)
    if is_adapter:
        _check_positions(flag, run.model.backbone)
    example = tested = example_prompt(run, as_in_test=True)
    if not is_adapter:
        merge_adapter(run.model.backbone)
        example = example_prompt(run, as_in_test=False)
    target = folder.resolve()
    try:
        with replace_folder(target) as draft:
            save_trained(run.model.backbone, draft)
            files = [path.name for path in draft.iterdir()]
            card = model_card(run, run_folder, result, example, is_adapter=is_adapter, files=files)
            (draft / CARD).write_text(card, encoding="utf-8")
            _check_folder(folder, flag)  # again, as loading and merging may take long
    except (OSError, SafetensorError) as error:
        raise _unwritable(flag, error) from error
    return (
        f"{folder}: {'adapter' if is_adapter else 'model'}, tokenizer and model card; the prompt of {CARD} scores"
        f" {example.log_odds:.5f}, in the run {tested.log_odds:.5f}"
    )


def _check_model(run_folder: Path, name: str) -> None:
    """Refuse models that score otherwise than by the logits of one language model."""
    model_class = get_model(name)
    if reads_candidates(model_class):
        return
    able = " and ".join(one for one, known in MODELS.items() if reads_candidates(known))
    why = "trains no language model"
    if issubclass(model_class, LanguageModelRecommender):
        why = (
            "also scores with weights outside of its language models, so that these rank nothing alone; they lie in"
            " the folder of its checkpoint"
        )
    raise UserError(f"{run_folder} is a run of {name}, which {why}: accepted are runs of {able}")


def _check_base(folder: Path, flag: str, backbone: str) -> None:
    """Refuse the folder from which the run read its base, which the export would remove."""
    if folder.resolve() == Path(backbone).expanduser().resolve():
        raise UserError(
            f"{flag} is the backbone of the run, '{backbone}', without which neither the run nor an adapter can be"
            " loaded: name another folder"
        )


def _check_adapter(flag: str, options: dict[str, Any]) -> None:
    """Refuse an adapter where there is none, and one that fits no plain base."""
    backbone = Settings.from_options({name: options[name] for name in options if name in _OF_BACKBONE}).backbone
    if not tunes_lora(backbone):
        raise UserError(
            f"{flag}: the run tuned all weights of backbone '{backbone.backbone}' (tune: {backbone.tune}) and has no"
            " adapter: export the whole model with --merged=<folder>"
        )
    if backbone.backbone == BUILTIN:
        raise UserError(
            f"{flag}: the adapter was trained on the random weights of backbone: builtin, which are in no folder:"
            " export the whole model with --merged=<folder>"
        )
    if has_adapter(os.path.expanduser(backbone.backbone)):
        raise UserError(
            f"{flag}: the folder of backbone '{backbone.backbone}' holds an adapter itself, which was merged before"
            " training, so that the new adapter fits no plain base: export the whole model with --merged=<folder>"
        )


def _check_positions(flag: str, backbone: Backbone) -> None:
    """Refuse an adapter over a GGUF file whose rescaling of positions the run reads, but transformers does not."""
    rotation = getattr(backbone.config, "rope_parameters", None) or {}
    if is_gguf_name(backbone.name) and rotation.get("rope_type") == "llama3":
        raise UserError(
            f"{flag}: transformers does not read how backbone '{backbone.name}' rescales positions, so that the adapter"
            " would score otherwise over it than in the run: export the whole model with --merged=<folder>"
        )


_OF_BACKBONE = ("backbone", "tune")


def _check_folder(folder: Path, flag: str) -> None:
    """Refuse, before anything is loaded, a folder that cannot be written, or with files that no export wrote."""
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        folder.parent.mkdir(parents=True, exist_ok=True)
        for place in (folder.parent, folder):
            if place.is_dir():
                with tempfile.TemporaryFile(dir=place):
                    pass
    except OSError as error:
        raise _unwritable(flag, error) from error
    others = {path.name for path in folder.iterdir()} - exported_files(folder) if folder.is_dir() else set()
    if others:
        raise UserError(
            f"{flag} holds files that export did not write, such as '{min(others)}': name another folder, or empty it"
        )


def _unwritable(flag: str, error: OSError | SafetensorError) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{flag} cannot be written ({reason}): name a folder in a writable place with enough room")
