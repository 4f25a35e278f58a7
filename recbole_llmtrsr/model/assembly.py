"""Builds the backbone and the prompts of a model from the options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from logging import getLogger

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from recbole_llmtrsr.config.settings import Settings
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.engine.exactness import choose_attention
from recbole_llmtrsr.engine.served_scorer import ServedScorer
from recbole_llmtrsr.engine.sharding import WeightDivider, check_can_divide
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.answers import answer_token_ids
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.llm.make_backbone import check_backbone, choose_weights, make_backbone
from recbole_llmtrsr.llm.number_format import autocast
from recbole_llmtrsr.llm.served_backbone import ServedBackbone
from recbole_llmtrsr.model.served import make_served_scorer
from recbole_llmtrsr.prompt.builder import PromptBuilder
from recbole_llmtrsr.prompt.templates import Templates, templates_for
from recbole_llmtrsr.runtime import processes

# Templates that the builtin backbone does not read in training, so that its tokenizer is not trained on them.
_UNREAD = ("retry", "instruction_without_summary", "paraphrase", "paraphrase_without_summary")


@dataclass(frozen=True)
class PromptedBackbone:
    """A backbone with its prompts and the token ids of its answers.

    Attributes:
        backbone: the language model.
        prompts: builds its prompts.
        yes_id: token id of the answer yes.
        no_id: token id of the answer no.
        attention_refused: reasons why faster attention back-ends are not in use, by name.
        served: scores the prompts in place of the backbone, which then has no weights and no answer ids.
    """

    backbone: Backbone
    prompts: PromptBuilder
    yes_id: int
    no_id: int
    attention_refused: Mapping[str, str]
    served: ServedScorer | None = None


def assemble(settings: Settings, dataset: LLMTRSRDataset, device: torch.device, seed: int) -> PromptedBackbone:
    """Load or create the backbone, select its trainable weights and the attention back-end; with `scorer`, do neither.

    Args:
        settings: the options.
        dataset: the data set; the builtin tokenizer is trained on its item texts and summaries.
        device: device of the backbone.
        seed: seed of the builtin backbone's weights.
    """
    templates = recommender_templates(settings)
    catalogue = _catalogue(dataset)
    if settings.backbone.scorer is not None:
        served = _served(settings, catalogue)
        _warn_of_cuts(served.prompts)
        return served

    def texts() -> list[str]:
        # The fixed words of prompts are weighted, so that they become single tokens.
        wording = [str(value) for name, value in dataclasses.asdict(templates).items() if name not in _UNREAD]
        return [*catalogue, *dataset.summary_sample(), *wording * 100]

    divider = WeightDivider(device) if processes.divides_weights() else None
    with nullcontext() if divider is None else processes.in_turn():  # main memory then holds a single whole backbone
        backbone = make_backbone(settings, texts, device, seed, [f" {answer}" for answer in settings.prompt.answers])
        prompts, yes_id, no_id = _prompts(settings, backbone.tokenizer, catalogue)
        _warn_of_cuts(prompts)
        _check_context(settings, backbone.config)
        choose_weights(backbone, settings)
        if divider is not None:
            divider.divide(backbone)
    backbone.to(device)
    with autocast(settings.backbone, device):
        refused = choose_attention(
            backbone, yes_id, no_id, settings.backbone.attention, settings.prompt.max_prompt_tokens
        )
    if settings.backbone.gradient_checkpointing:
        backbone.enable_gradient_checkpointing()
    return PromptedBackbone(backbone, prompts, yes_id, no_id, refused)


def check_prompts(settings: Settings, dataset: LLMTRSRDataset) -> None:
    """Refuse a backbone that cannot be loaded or prompted, before summaries are written.

    The check reads the names of weights, but not the weights.

    Raises:
        UserError: the backbone or its tokenizer does not exist, the weights have another architecture, answers are not
            single tokens, `max_prompt_tokens` is too small, `load_in` is not supported, or FSDP cannot shard the
            weights.
    """
    if settings.backbone.scorer is not None:
        _served(settings, _catalogue(dataset))
        return
    check_can_divide(settings.backbone)
    if (checked := check_backbone(settings, dataset.config["device"])) is not None:
        config, tokenizer = checked
        _check_context(settings, config.get_text_config())
        _prompts(settings, tokenizer, _catalogue(dataset))


def recommender_templates(settings: Settings) -> Templates:
    """Return the templates of the recommender's prompts, with or without a summary and with the words of `answers`.

    Raises:
        UserError: `prompt_templates` is invalid, or replaces an instruction that prompts without a summary do not use.
    """
    overrides, (first, second) = settings.prompt.prompt_templates, settings.prompt.answers
    templates = templates_for(settings.prompt.domain, overrides, (first, second))
    if settings.summary.summary != "none":
        return templates
    if "instruction" in overrides and "instruction_without_summary" not in overrides:
        raise UserError(
            "prompt_templates replaces instruction, which prompts without a summary do not use: replace"
            " instruction_without_summary (or both, to compare with models that use a summary)"
        )
    return templates.without_summary()


def prompt_builder(
    settings: Settings, templates: Templates, tokenizer: PreTrainedTokenizerBase, catalogue: Sequence[str]
) -> PromptBuilder:
    """Create a `PromptBuilder` from the options; `catalogue` holds the text of each item by item id."""
    with_summary = settings.summary.summary != "none"
    return PromptBuilder(tokenizer, templates, settings.prompt, catalogue, with_summary=with_summary)


def _prompts(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, catalogue: list[str]
) -> tuple[PromptBuilder, int, int]:
    prompts = prompt_builder(settings, recommender_templates(settings), tokenizer, catalogue)
    first, second = settings.prompt.answers
    return prompts, *answer_token_ids(tokenizer, prompts.slot_text, (first, second), prompts.separator)


def _served(settings: Settings, catalogue: list[str]) -> PromptedBackbone:
    """The prompts of a model behind a server, whose answers are known by their texts alone."""
    scorer = make_served_scorer(settings)
    prompts = prompt_builder(settings, recommender_templates(settings), scorer.tokenizer, catalogue)
    return PromptedBackbone(ServedBackbone(scorer.name, scorer.tokenizer), prompts, 0, 0, {}, scorer)


def _catalogue(dataset: LLMTRSRDataset) -> list[str]:
    return [dataset.item(i).line for i in range(dataset.item_num)]


def _warn_of_cuts(prompts: PromptBuilder) -> None:
    for loss in prompts.cut_items():
        getLogger().warning(loss)


def _check_context(settings: Settings, config: PretrainedConfig) -> None:
    longest, wanted = getattr(config, "max_position_embeddings", None), settings.prompt.max_prompt_tokens
    if longest is not None and wanted > longest:
        raise UserError(
            f"max_prompt_tokens: {wanted} is more than the {longest} positions of backbone"
            f" '{settings.backbone.backbone}': set it to {longest} or less"
        )
    rotation = getattr(config, "rope_parameters", None) or {}
    limit = rotation.get("original_max_position_embeddings") or longest
    if rotation.get("rope_type") in ("dynamic", "longrope") and limit is not None and wanted > limit:
        raise UserError(
            f"max_prompt_tokens: {wanted} is more than the {limit} positions after which"
            f" backbone '{settings.backbone.backbone}' rescales all positions ({rotation['rope_type']} RoPE), so a"
            f" score would depend on the longest prompt in its batch: set it to {limit} or less"
        )
