"""Checks that a model's embedding has a row for every token that a text may contain."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.tokenization.chat import chat_frame
from recbole_llmtrsr.llm.tokenization.plain_text import control_tokens
from recbole_llmtrsr.llm.tokenization.thoughts import past_thoughts

# A letter, and an unassigned code point, which vocabularies without byte tokens encode as the unknown token.
_ANY_TEXT = "a \u0378"


def rows_fault(tokenizer: PreTrainedTokenizerBase, n_rows: int) -> str | None:
    """Describe tokens that may occur but have no row among ``n_rows``, with the remedy; None if all have one.

    Control tokens matter only if the tokenizer or its chat template adds them around texts. Those of images never do,
    nor does the padding token, since padding is masked and any id can be used.
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
        f"its tokenizer has ids up to {max(read)} ('{read[max(read)]}'), but the model has only {n_rows} rows:"
        f" call `model.resize_token_embeddings(len(tokenizer))`, train the {len(read)} new rows, and save the model"
        " again, or use the tokenizer that belongs to the model"
    )


def _of_template(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that the chat template adds around a user's message; none if there is no usable template."""
    if not tokenizer.chat_template:
        return []
    try:
        opening, closing = chat_frame(tokenizer, "", "")
    except UserError:  # reported where prompts are made, if they use the template
        return []
    frame = [opening, past_thoughts(closing)]
    return [i for ids in tokenizer(frame, add_special_tokens=False, verbose=False)["input_ids"] for i in ids]
