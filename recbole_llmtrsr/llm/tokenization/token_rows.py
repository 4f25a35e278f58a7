"""Whether a model's embedding has a row for every token that may be read."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.tokenization.chat import chat_frame, past_thoughts
from recbole_llmtrsr.llm.tokenization.plain_text import control_tokens

# An ordinary letter, and a code point without one, for which a vocabulary without bytes has its unknown token.
_ANY_TEXT = "a \u0378"


def rows_fault(tokenizer: PreTrainedTokenizerBase, n_rows: int) -> str | None:
    """Tokens that may be read and have no row, with the remedy; None where every one has.

    Control tokens that neither the tokenizer sets around a text nor its chat template writes around a user's message
    are never read: those of images, for instance, and that of padding, in whose place another id is masked as well.

    Args:
        tokenizer: a transformers tokenizer.
        n_rows: of the embedding.
    """
    beyond = {i: token for token, i in tokenizer.get_vocab().items() if i >= n_rows}
    if not beyond:
        return None
    controls = control_tokens(tokenizer)
    around = {*tokenizer(_ANY_TEXT)["input_ids"], *_of_template(tokenizer)}
    read = {i: token for i, token in beyond.items() if i not in controls or i in around}
    if not read:
        return None
    return (
        f"its tokenizer has ids up to {max(read)} ('{read[max(read)]}'), the model only {n_rows} rows: call"
        f" `model.resize_token_embeddings(len(tokenizer))`, tune the {len(read)} new rows, and save the model anew, or"
        " put the tokenizer that belongs to it there"
    )


def _of_template(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of what the chat template writes around a user's message; none where no prompt can have it."""
    if not tokenizer.chat_template:
        return []
    try:
        opening, closing = chat_frame(tokenizer, "", "")
    except UserError:  # who wants the template is told so where prompts are made
        return []
    frame = (opening, past_thoughts(closing))
    return [i for ids in tokenizer(list(frame), add_special_tokens=False, verbose=False)["input_ids"] for i in ids]
