"""A causal language model that reads vectors, one for each event, instead of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def read_vectors(decoder: nn.Module, head: Tensor, head_mask: Tensor, events: Tensor, n_events: Tensor) -> Tensor:
    """Hidden states at every event, after the vectors before it and its own.

    Args:
        decoder: of a causal language model.
        head: vectors before the events, such as a summary's. [B, S, H]
        head_mask: which of them are there. [B, S]
        events: vectors of the events, oldest first. [B, T, H]
        n_events: of each row, at least 1. [B]

    Returns:
        [B, T, H]; meaningless behind a row's events.
    """
    event_mask = torch.arange(events.shape[1], device=events.device) < n_events[:, None]
    mask = torch.cat([head_mask, event_mask], dim=1)
    # What is there comes first in each row: positions are then right without being given, in every architecture.
    order = torch.argsort(~mask, dim=1, stable=True)
    vectors = _picked(torch.cat([head, events], dim=1), order)
    states = decoder(inputs_embeds=vectors, attention_mask=mask.gather(1, order).long()).last_hidden_state
    places = head_mask.sum(1, keepdim=True) + torch.arange(events.shape[1], device=events.device)
    return _picked(states, places.clamp(max=mask.shape[1] - 1))


def joined(history: Tensor, n: Tensor, targets: Tensor, n_targets: Tensor) -> Tensor:
    """Each history with its targets appended, but for the last one, which nothing is predicted from.

    Args:
        history: item ids, oldest first. [B, L]
        n: of each history. [B]
        targets: item ids. [B, m]
        n_targets: of each row, at least 1. [B]

    Returns:
        item ids, 0 behind. [B, T]

    >>> history, targets = torch.tensor([[1, 2, 0], [3, 0, 0]]), torch.tensor([[4, 5], [6, 0]])
    >>> joined(history, torch.tensor([2, 1]), targets, torch.tensor([2, 1])).tolist()
    [[1, 2, 4], [3, 0, 0]]
    """
    places = torch.arange(int((n + n_targets).max()) - 1, device=n.device)
    both = torch.cat([history, targets], dim=1)
    behind = history.shape[1] + places - n[:, None]
    index = torch.where(places < n[:, None], places, behind).clamp(max=both.shape[1] - 1)
    return torch.where(places < (n + n_targets)[:, None] - 1, both.gather(1, index), 0)


def _picked(vectors: Tensor, places: Tensor) -> Tensor:
    return vectors.gather(1, places[..., None].expand(-1, -1, vectors.shape[2]))
