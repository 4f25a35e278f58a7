"""A language model that encodes item texts as vectors, and can be tuned together with the model that reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llmtrsr.engine.rows import pad_right
from recbole_llmtrsr.engine.token_batches import token_batches
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.llm.embeddings.vector_file import VectorFile
from recbole_llmtrsr.llm.tokenization.plain_text import PlainText
from recbole_llmtrsr.runtime.packing import groups
from recbole_llmtrsr.runtime.screen import Bar

_ITEMS_AT_ONCE = 10_000
_ITEMS_A_PART = 4096


class ItemEncoder(nn.Module):
    """Encodes a text as the mean of a language model's last hidden states over its tokens, normalized to length 1.

    Args:
        backbone: the language model.
        texts: texts of the items by item id; the text of the padding item 0 is never used.
        max_tokens: maximum number of tokens, to which longer texts are cut.

    Attributes:
        backbone: the language model.
        n_cut: number of texts with `max_tokens` tokens, which may be cut.
    """

    def __init__(self, backbone: Backbone, texts: Sequence[str], max_tokens: int) -> None:
        super().__init__()
        self.backbone = backbone
        self._plain_text = PlainText(backbone.tokenizer)
        self._file: Path | None = None
        self._tokens: list[np.ndarray] = []
        for part in groups(texts, _ITEMS_AT_ONCE):
            self._tokens += self._tokenized(part, max_tokens)
        self.n_cut = sum(len(ids) == max_tokens for ids in self._tokens)
        if self.n_cut:
            getLogger().warning(
                f"{self.n_cut:,} of {len(texts):,} item texts reach max_item_tokens: {max_tokens} and may be truncated"
            )

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def longest(self) -> int:
        """Number of tokens of the longest text after cuts."""
        return max(map(len, self._tokens))

    @property
    def width(self) -> int:
        """Number of dimensions of a vector."""
        return int(self.backbone.config.hidden_size)

    def forward(self, items: Tensor) -> Tensor:
        """Encode items by their ids, with gradients. [n] -> [n, width]"""
        return self._encoded([self._tokens[i] for i in items.tolist()])

    def of_texts(self, texts: Sequence[str], max_tokens: int) -> Tensor:
        """Encode other texts, cut to `max_tokens`, with gradients. [n, width]"""
        return self._encoded(self._tokenized(texts, max_tokens))

    def remove_file(self) -> None:
        """Remove the file of the latest table after its weights have changed."""
        if self._file is not None:
            for path in (self._file, self._file.with_suffix(".json")):
                path.unlink(missing_ok=True)
            self._file = None

    @torch.no_grad()
    def table(self, max_tokens: int, show_progress: bool = False, folder: Path | None = None) -> Tensor:
        """Encode all items; the vector of item 0 is zero.

        Args:
            max_tokens: maximum number of tokens per forward pass.
            show_progress: whether to draw a progress bar.
            folder: folder of a file of vectors, named by a hash of texts and weights, from which a stopped run resumes;
                None keeps vectors in memory.

        Returns:
            fp32 vectors, memory-mapped on the CPU if they are in a file, and otherwise on the device of the backbone.
            [n_items, width]
        """
        n, file = len(self), None
        if folder is not None:
            self._file = folder / f"{self._digest()}.npy"
            file = VectorFile(self._file, n, self.width)
        device = self.backbone.device
        vectors = torch.zeros(0 if file else n, self.width, device=device)
        done = 0 if file is None else file.n_done
        with Bar(total=n, initial=done, desc="item texts", disable=not show_progress) as bar:
            for begin in range(done, n, _ITEMS_A_PART):
                items = range(begin, min(begin + _ITEMS_A_PART, n))
                part = torch.zeros(len(items), self.width, device=device)
                for chosen in token_batches([len(self._tokens[i]) for i in items], max_tokens):
                    part[chosen] = self._encoded([self._tokens[begin + i] for i in chosen]).float()
                if begin == 0:
                    part[0] = 0.0
                if file is None:
                    vectors[items.start : items.stop] = part
                else:
                    file.write(part.cpu().numpy())
                bar.update(len(items))
        return vectors if file is None else torch.from_numpy(file.rows)

    def _tokenized(self, texts: Sequence[str], most: int) -> list[np.ndarray]:
        rows = self._plain_text.ids(texts)
        return [np.array(ids[:most] or [self.backbone.pad_id], dtype=np.int32) for ids in rows]

    def _encoded(self, tokens: Sequence[np.ndarray]) -> Tensor:
        ids, lengths = (torch.from_numpy(part) for part in pad_right(tokens, self.backbone.pad_id))
        device = self.backbone.device
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).to(device)
        states = self.backbone.decoder(input_ids=ids.to(device), attention_mask=mask.long()).last_hidden_state
        return F.normalize((states * mask[..., None]).sum(1), dim=1)

    def _digest(self) -> str:
        device = self.backbone.device.type
        numbers = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        digest = hashlib.sha256(f"{numbers}\n{self.backbone.config.to_json_string()}\n".encode())
        for ids in self._tokens:
            digest.update(len(ids).to_bytes(4, "big") + ids.tobytes())
        for name, weight in sorted(self.backbone.named_parameters()):
            digest.update(name.encode() + weight.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]
