"""Text vectors of a catalogue by item id, and their use as initial item embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from recbole.data.dataset import Dataset
from torch import Tensor, nn

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.catalogue_text import catalogue_texts
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.embeddings.text_vectors import text_vectors
from recbole_llmtrsr.llm.number_format import model_dtype

_ROWS_AT_ONCE = 65_536  # in double precision


def item_vectors(config: Config, dataset: Dataset, role: str) -> Tensor:
    """Compute text vectors of length 1 by RecBole's item id; zeros for the padding and items without text.

    Args:
        config: the configuration of the run.
        dataset: the data set.
        role: the option that names the encoder, 'text_encoder' or 'text_init'.

    Returns:
        fp32 on the CPU. [n_items, width]
    """
    options, texts = config.settings, catalogue_texts(config, dataset)
    shown = [i for i, text in enumerate(texts) if text]
    vectors = text_vectors(
        role,
        getattr(options.text, role),
        [texts[i] for i in shown],
        folder=Path(options.text.vector_dir).expanduser(),
        device=config["device"],
        dtype=model_dtype(options.backbone.precision, config["device"]),
        max_tokens=options.prompt.max_item_tokens,
        trust_remote_code=options.backbone.trust_remote_code,
        show_progress=config["show_progress"],
    )
    table = torch.zeros(len(texts), vectors.shape[1])
    table[shown] = torch.from_numpy(np.asarray(vectors))
    return table


def initialise_items(model: nn.Module, vectors: Tensor, frozen: bool) -> None:
    """Initialise a model's item embeddings with the principal components of text vectors.

    The components are scaled to the standard deviation of the model's initial weights, which later layers expect. Items
    without text, the padding, further rows (such as a mask) and columns beyond the width of the vectors keep their
    initial weights.

    Args:
        model: the model.
        vectors: text vectors. [n_items, width]
        frozen: whether to freeze the whole table, including its rows without texts.

    Source:
        Harte et al., "Leveraging Large Language Models for Sequential Recommendation" (RecSys 2023), LLM2BERT4Rec,
        which reduces vectors of a commercial service by principal components and tunes them.

    Raises:
        UserError: the model has no item embedding, or all texts are equal.
    """
    embedding = item_embedding(model, len(vectors))
    has_text = vectors.abs().sum(1) > 0
    components = principal_components(vectors[has_text], embedding.embedding_dim)
    weight = embedding.weight.data
    rows = torch.nonzero(has_text)[:, 0].to(weight.device)
    scale = weight[rows].std().cpu() / components.std()
    if not torch.isfinite(scale):
        raise UserError(f"the texts of all {len(components)} items are equal: choose other item_text_fields")
    weight[rows, : components.shape[1]] = (components * scale).to(weight)
    embedding.weight.requires_grad_(not frozen)


def item_embedding(model: nn.Module, n_items: int) -> nn.Embedding:
    """Return the item embedding of a model, with one row per item.

    Raises:
        UserError: the model has no item embedding.
    """
    embedding = getattr(model, "item_embedding", None)
    if not isinstance(embedding, nn.Embedding) or embedding.num_embeddings < n_items:
        raise UserError(
            f"text_init: {type(model).__name__} has no item_embedding that could be initialized from texts: set it only"
            " for models that have one, such as SASRec.text_init"
        )
    return embedding


def principal_components(vectors: Tensor, n: int) -> Tensor:
    """Compute coordinates along the n directions of largest variance, largest first; fewer for narrower vectors.

    The sign of a direction is chosen so that its largest weight is positive.

    Returns:
        fp32 [n_rows, min(n, width)].
    """
    mean, parts = vectors.mean(0, dtype=torch.float64), torch.split(vectors, _ROWS_AT_ONCE)
    covariance = torch.zeros(vectors.shape[1], vectors.shape[1], dtype=torch.float64)
    for part in parts:
        centred = part.double() - mean
        covariance += centred.T @ centred
    _, directions = torch.linalg.eigh(covariance)  # ascending
    directions = directions.flip(1)[:, :n]
    directions *= directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    return torch.cat([((part.double() - mean) @ directions).float() for part in parts])
