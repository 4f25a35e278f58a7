"""The model card of an exported backbone: what it is, how to score with it, its prompt, metrics and options."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData, try_to_load_from_cache
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from recbole_llmtrsr.config.options import (
    BackboneSettings,
    DataSettings,
    PromptSettings,
    SummarySettings,
    TrainingSettings,
)
from recbole_llmtrsr.config.settings import Settings
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.engine.rows import GroupedPrompts
from recbole_llmtrsr.evaluation.comparison.cells import RANDOM, cell, figure
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, make_comparison
from recbole_llmtrsr.evaluation.comparison.runs import load_run
from recbole_llmtrsr.evaluation.comparison.tables import caption
from recbole_llmtrsr.evaluation.comparison.text_table import TextTable
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.llm.builtin import BUILTIN
from recbole_llmtrsr.llm.loading.gguf_file import GGUF, PACKAGED
from recbole_llmtrsr.llm.loading.source import ModelSource, is_hub_name, is_path
from recbole_llmtrsr.llm.number_format import autocast, tunes_lora
from recbole_llmtrsr.model.assembly import recommender_templates
from recbole_llmtrsr.recommend.saved_run import SavedRun
from recbole_llmtrsr.summarizer.writers.make_writer import FILE, SERVER

CARD = "README.md"
_MARK = "files of this export:"
_SUMMARY = "<preference summary>"
_N_RECENT = 2  # items of the example
_ALWAYS = ("backbone", "tune", "summary", "summarizer")  # options that a card lists also with their defaults
_OF_RECBOLE = ("learning_rate", "train_batch_size", "train_neg_sample_args", "eval_args", "seed")


@dataclass(frozen=True)
class ExamplePrompt:
    """A prompt whose texts are placeholders.

    Attributes:
        texts: its parts, which are encoded separately.
        ids: its tokens, as the run's prompts have them.
        is_exact: whether the tokens of the parts, each encoded by itself, are those of the prompt.
        is_cut: whether the run's limits cut it.
        log_odds: its score.
    """

    texts: tuple[str, ...]
    ids: tuple[int, ...]
    is_exact: bool
    is_cut: bool
    log_odds: float


@torch.no_grad()
def example_prompt(run: SavedRun, *, as_in_test: bool) -> ExamplePrompt:
    """Build a prompt of placeholders and score it.

    Args:
        run: whose weights may have been merged.
        as_in_test: score in the precision of the test, and not in the number format of the weights alone.
    """
    settings, own = run.config.settings, run.model.prompts
    items = [_placeholder(run.dataset.item_text, number) for number in range(1, _N_RECENT + 2)]
    recent = items[:-1][: settings.prompt.n_recent_items]
    texts = own.texts(_SUMMARY, recent, items[-1])
    prompts = own.for_items([*recent, items[-1]])
    prefix = prompts.prefix(0, _SUMMARY, range(len(recent)))
    candidate = prompts.candidate(len(recent), len(prefix))
    with autocast(settings.backbone, run.model.device) if as_in_test else nullcontext():
        score = float(run.model.log_odds(GroupedPrompts([prefix], [[candidate]])))
    ids = [*map(int, prefix), *candidate]
    tokenizer = run.model.backbone.tokenizer
    encoded = [token for text in texts for token in tokenizer.encode(text, add_special_tokens=False)]
    trims = prompts.trims["summaries_cut"] + prompts.trims["recent_items_left_out"]
    is_cut = trims + sum(prompts.tokens_cut(item, len(prefix)) for item in range(len(recent) + 1)) > 0
    return ExamplePrompt(tuple(texts), tuple(ids), [*own.leading, *encoded] == ids, is_cut, score)


def _placeholder(texts: ItemText, number: int) -> str:
    values = [f"<{column} of item {number}>" for column in texts.columns]
    return ItemText.from_rows(texts.columns, {"": values}, texts.labels)[""].line


def model_card(
    run: SavedRun,
    folder: Path,
    result: Mapping[str, Any],
    example: ExamplePrompt,
    *,
    is_adapter: bool,
    files: Sequence[str],
) -> str:
    """Write the card.

    Args:
        run: the loaded run.
        folder: of the run.
        result: content of its result.json.
        example: a prompt with its score by the exported weights.
        is_adapter: whether an adapter is exported, and not a whole model.
        files: names of the exported files.
    """
    settings, model = run.config.settings, run.model
    backbone, prompt = settings.backbone, settings.prompt
    comparison = make_comparison([load_run(folder, {})], settings.evaluation.n_resamples)
    base = None if backbone.backbone == BUILTIN else backbone.backbone
    dtype = str(model.backbone.transformer.dtype)
    remote = ", trust_remote_code=True" if backbone.trust_remote_code else ""
    tokens = [model.backbone.tokenizer.decode([token]) for token in (model.yes_id, model.no_id)]
    return _template().render(
        metadata=_metadata(base, is_adapter).to_yaml(),
        label=run.label,
        dataset=run.config["dataset"],
        nature=_nature(backbone, is_adapter),
        with_summary=settings.summary.summary != "none",
        answers=tokens,
        base=_base_arguments(backbone, dtype) + remote if is_adapter else None,
        about_base=_about_base(backbone) if is_adapter else "",
        cut_layers=_cut_layers(model.backbone, backbone.backbone_layers),
        whole=f'".", dtype={dtype}{remote}',
        load_in=backbone.load_in,
        texts=[_quoted(text) for text in example.texts] if example.is_exact else [],
        leading=model.prompts.leading or "",
        ids=list(example.ids),
        is_cut=example.is_cut,
        yes_id=model.yes_id,
        no_id=model.no_id,
        log_odds=example.log_odds,
        number_format=dtype.removeprefix("torch."),
        prompt=prompt,
        nothing=recommender_templates(settings).none,
        prompt_text="".join(example.texts),
        caption=caption(comparison, has_legend=False),
        metrics=_metrics(comparison),
        has_intervals=any(math.isfinite(one.low) for one in comparison.rows[0].metrics.values()),
        n_train=f"{result['n_train']:,}",
        n_epochs=result["epochs_trained"],
        options=_options(result["options"]),
        base_name=base,
        fingerprint=model.backbone.digest,
        licence="" if base is None else _licence(base),
        versions=", ".join(f"{name} {of}" for name, of in (result.get("versions") or {}).items()),
        mark=_MARK,
        files=sorted({*files, CARD}),
    )


def exported_files(folder: Path) -> set[str]:
    """Names of the files that the card of an exported folder lists; empty if it holds no such card."""
    with suppress(OSError, UnicodeDecodeError):
        found = re.search(rf"^<!-- {_MARK} (.*) -->$", (folder / CARD).read_text(encoding="utf-8"), re.MULTILINE)
        return set(found[1].split(", ")) if found else set()
    return set()


def _nature(backbone: BackboneSettings, is_adapter: bool) -> str:
    """What was trained, as the first sentence."""
    if backbone.backbone == BUILTIN:
        return "A causal language model without pretraining."
    if not tunes_lora(backbone):
        return f"The causal language model `{backbone.backbone}`, all of whose weights were tuned."
    if is_adapter:
        return f"A LoRA adapter of the causal language model `{backbone.backbone}`."
    return f"The causal language model `{backbone.backbone}`, into whose weights a LoRA adapter is merged."


def _metadata(base: str | None, is_adapter: bool) -> ModelCardData:
    return ModelCardData(
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="text-generation",
        base_model=base if base is not None and is_hub_name(base) else None,
        license=None if base is None else _stated_licence(base),
        tags=["recbole_llmtrsr", "recommendation"],
    )


def _base_arguments(backbone: BackboneSettings, dtype: str) -> str:
    """Arguments of `from_pretrained` that load the base of an adapter."""
    arguments = [*_place_of_base(backbone.backbone), f"dtype={dtype}"]
    if backbone.load_in == "8bit":
        arguments.append("quantization_config=BitsAndBytesConfig(load_in_8bit=True)")
    elif backbone.load_in == "4bit":
        nf4 = f'bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype={dtype}'
        arguments.append(f"quantization_config=BitsAndBytesConfig(load_in_4bit=True, {nf4})")
    return ", ".join(arguments)


def _place_of_base(name: str) -> list[str]:
    """Arguments that name a folder, a GGUF file, also one in an installed package, or a model of the hub."""
    path = Path(name) if is_hub_name(name) else Path(ModelSource.find("backbone", name).path)
    if path.suffix.lower() != GGUF:
        return [_quoted(name)]
    packaged = f'find_spec("{path.parent.name}").submodule_search_locations[0]'
    folder = _quoted(str(Path(name).parent)) if name not in PACKAGED else packaged
    return [folder, f"gguf_file={_quoted(path.name)}"]


def _cut_layers(model: Backbone, n_layers: int | None) -> str:
    """A statement that removes the layers of the base that the run left out; empty if it kept all."""
    if n_layers is None:
        return ""
    lists = [name for name, part in model.transformer.named_modules() if isinstance(part, torch.nn.ModuleList)]
    (path,) = [name for name in lists if len(model.transformer.get_submodule(name)) == n_layers][:1]  # type: ignore[arg-type]
    return f"base.{path} = base.{path}[:{n_layers}]"


def _about_base(backbone: BackboneSettings) -> str:
    said = []
    if is_path(backbone.backbone) or Path(backbone.backbone).exists():
        said.append(f"`{backbone.backbone}` is the base where the run was started.")
    if backbone.load_in is not None:
        said.append(
            "bitsandbytes may round activations of quantized layers, which the run did not, so that this score differs"
            " in hundredths; merged weights (`recbole-llmtrsr export --merged`) score as the run did."
        )
    return " ".join(said)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _metrics(comparison: Comparison) -> str:
    (row,) = comparison.rows
    chance = comparison.random or {}
    lines = [[name, cell(one), figure(chance.get(name))] for name, one in row.metrics.items()]
    return TextTable("", ["metric", row.label, RANDOM], lines, n_names=1).markdown().rstrip()


def _options(of_run: Mapping[str, Any]) -> str:
    """A table of the options that decide the weights and the prompts, without places on the machine of the run."""
    groups = (DataSettings, SummarySettings, PromptSettings, BackboneSettings, TrainingSettings)
    own = [one for group in groups for one in fields(group) if not {"free", "place"} & {*one.metadata["kinds"]}]
    default = Settings.from_options({}).flat()
    differing = [one.name for one in own if of_run.get(one.name, default[one.name]) != default[one.name]]
    unread = ("prompt_templates", *(() if of_run["backbone"] == BUILTIN else ("builtin_",)))
    names = [name for name in differing if not name.startswith(unread)]
    named = {name: of_run[name] for name in dict.fromkeys((*_ALWAYS, *names, *_OF_RECBOLE)) if name in of_run}
    named["summarizer"] = _without_place(str(named["summarizer"]))
    lines = [[name, json.dumps(value, ensure_ascii=False)] for name, value in named.items()]
    return TextTable("", ["option", "value"], lines, n_names=2).markdown().rstrip()


def _without_place(summarizer: str) -> str:
    """A summarizer without the address of its server, or the folders of its file.

    >>> _without_place("openai:@cf/meta/llama@https://host/v1"), _without_place("file:/home/me/texts.jsonl")
    ('openai:@cf/meta/llama', 'file:texts.jsonl')
    """
    if summarizer.startswith(SERVER):
        return summarizer.rpartition("@")[0]
    if summarizer.startswith(FILE):
        return FILE + Path(summarizer.removeprefix(FILE)).name
    return Path(summarizer).name if is_path(summarizer) else summarizer


def _licence(base: str) -> str:
    """What the files of the base say about its licence."""
    if stated := _stated_licence(base):
        return f"Its files state the licence `{stated}`."
    folder = Path(base).expanduser()
    files = (
        sorted(path.name for path in folder.iterdir() if re.match("licen[cs]e", path.name, re.I))
        if folder.is_dir()
        else []
    )
    if files:
        return f"Its licence is the file {', '.join(f'`{name}`' for name in files)} in its folder."
    if is_hub_name(base) and not isinstance(try_to_load_from_cache(base, CARD), str):
        return "Its licence is not known here, because its model card is not on this machine."
    return "Its files state no licence."


@cache
def _stated_licence(base: str) -> str | None:
    """The licence that the base's model card or GGUF file states, as far as it is on this machine."""
    place: Any = try_to_load_from_cache(base, CARD) if is_hub_name(base) else ModelSource.find("backbone", base).path
    if not isinstance(place, str):
        return None
    path = Path(place) / CARD if Path(place).is_dir() else Path(place)
    with suppress(Exception):  # of a card that anybody wrote
        if path.suffix.lower() == GGUF:
            found = import_module("gguf").GGUFReader(path).fields["general.license"].contents()
        else:
            found = ModelCard.load(str(path), ignore_metadata_errors=True).data.license
        return str(found) if found else None
    return None


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md")
