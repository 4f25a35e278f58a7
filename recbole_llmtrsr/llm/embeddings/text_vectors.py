"""Text embeddings, from a language model or from TF-IDF."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from logging import getLogger
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.embeddings.vector_file import VectorFile
from recbole_llmtrsr.llm.loading.fingerprint import model_fingerprint
from recbole_llmtrsr.llm.loading.source import ModelSource
from recbole_llmtrsr.llm.tokenization.plain_text import PlainText
from recbole_llmtrsr.runtime.packing import groups
from recbole_llmtrsr.runtime.screen import Bar

Vectors = npt.NDArray[np.float32]

VERSION = 2  # increase it with every change of the vectors, so that cached ones are not reused
TFIDF = "tfidf"
TFIDF_WIDTH = 256
TFIDF_TERMS = 100_000  # the most frequent ones, which bound memory
_TEXTS_AT_ONCE = 64
_ALIKE = 1e-5  # tolerance per element of a unit vector, for rounding in another order of summation
_TEXTS_A_PART = 4096


def text_vectors(
    role: str,
    encoder: str,
    texts: Sequence[str],
    *,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    max_tokens: int,
    trust_remote_code: bool = False,
    show_progress: bool = True,
) -> Vectors:
    """Embed texts as unit vectors, or zero vectors for texts without a known word.

    A model's vectors are the mean of its last hidden states over a text's tokens (as in Sentence-BERT; Reimers and
    Gurevych, EMNLP 2019). They are cached on disk under a hash of model and texts, from which an interrupted run
    continues and later runs with the same texts read them.

    Args:
        role: the option that names the encoder, for messages.
        encoder: 'tfidf', or a transformers name or folder.
        texts: one line each.
        folder: folder of the cache.
        device: device of the model.
        dtype: number format of its weights.
        max_tokens: maximum length of a text; longer texts are cut, and a warning reports their number.

    Returns:
        vectors, memory-mapped. [n_texts, width]

    Raises:
        UserError: the model is missing, its tokenizer covers no word of the texts, all vectors are equal, or the cache
            file is invalid.
    """
    if encoder == TFIDF:
        return tfidf_vectors(texts)
    source = ModelSource.find(role, encoder, trust_remote_code)
    config, tokenizer = source.load_tokenizer(causal=False)
    name = hashlib.sha256(f"{VERSION} {model_fingerprint(source.path)} {dtype} {max_tokens}\n".encode())
    for text in texts:
        name.update(f"{len(text)} {text}\n".encode())
    file = VectorFile(folder / f"{name.hexdigest()[:16]}.npy", len(texts), config.get_text_config().hidden_size)
    if file.n_done == len(texts):
        return _telling_apart(file.rows, texts, source)
    model = source.load_encoder(dtype).to(device).eval()  # type: ignore[arg-type]
    special = set(tokenizer.all_special_ids)
    plain_text, n_cut = PlainText(tokenizer, max_tokens), 0
    with Bar(total=len(texts), initial=file.n_done, desc=f"{role} texts", disable=not show_progress) as bar:
        for part in file.missing(_TEXTS_A_PART):
            tokens = plain_text.ids([texts[i] for i in part], framed=True)
            # In the first part only, as a later one may be a single odd text.
            if part.start == 0 and special.issuperset(chain.from_iterable(tokens)):
                raise UserError(
                    f"{source}: its tokenizer covers no word of {len(part):,} texts (all tokens are unknown): replace"
                    f" it by the tokenizer that belongs to the model, choose a model for the texts' language, or set"
                    f" `{role}: tfidf`"
                )
            n_cut += sum(len(ids) == max_tokens for ids in tokens)
            vectors = np.empty((len(part), file.rows.shape[1]), dtype=np.float32)
            order = sorted(range(len(part)), key=lambda i: -len(tokens[i]))
            for chosen in groups(order, _TEXTS_AT_ONCE):
                vectors[chosen] = _encoded(model, [tokens[i] for i in chosen])
                bar.update(len(chosen))
            if not np.isfinite(vectors).all():
                raise UserError(
                    f"{source}: its vectors are not finite in {dtype}: set precision: fp32, or choose another model"
                )
            file.write(vectors)
    if n_cut:
        getLogger().warning(
            f"{role}: {n_cut:,} of {len(texts):,} texts have {max_tokens} tokens or more and may be cut"
        )
    return _telling_apart(file.rows, texts, source)


def _telling_apart(rows: Vectors, texts: Sequence[str], source: ModelSource) -> Vectors:
    """Return the vectors, unless all are equal although the texts differ."""
    parts = (rows[begin : begin + _TEXTS_A_PART] for begin in range(0, len(rows), _TEXTS_A_PART))
    if len(set(texts)) > 1 and all(np.abs(part - rows[0]).max() < _ALIKE for part in parts):
        raise UserError(
            f"{source} gives {len(rows):,} texts the same vector, so that items cannot be distinguished: download the"
            " model again, or choose another one"
        )
    return rows


@torch.no_grad()
def _encoded(model: torch.nn.Module, tokens: Sequence[Sequence[int]]) -> Vectors:
    device = next(model.parameters()).device
    # A text without tokens is one masked token.
    ids = pad_sequence([torch.tensor(text or [0]) for text in tokens], batch_first=True).to(device)
    mask = pad_sequence([torch.tensor([1] * len(text) or [0]) for text in tokens], batch_first=True).to(device)
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.nn.functional.normalize(mean, dim=1).cpu().numpy()  # type: ignore[no-any-return]


def tfidf_vectors(texts: Sequence[str], width: int = TFIDF_WIDTH) -> Vectors:
    """Latent semantic analysis: TF-IDF of the most frequent words and bigrams, reduced by a truncated SVD.

    Args:
        texts: one line each.
        width: maximum number of dimensions; fewer if there are fewer words or texts.

    Returns:
        unit vectors, or zero vectors for texts without a word. [n_texts, width]

    Raises:
        UserError: no text contains a word.

    >>> vectors = tfidf_vectors(["red kettle", "blue kettle", "oak chair"], width=2)
    >>> bool(vectors[0] @ vectors[1] > 0.9), bool(abs(vectors[0] @ vectors[2]) < 0.1)
    (True, True)
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        counts = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+", max_features=TFIDF_TERMS
        ).fit_transform(texts)
    except ValueError as error:
        raise UserError("text encoder tfidf: no item text contains a word; choose other item_text_fields") from error
    width = min(width, *counts.shape)
    vectors = TruncatedSVD(width, random_state=0).fit_transform(counts).astype(np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 1e-6, length, 1.0)  # type: ignore[no-any-return]
