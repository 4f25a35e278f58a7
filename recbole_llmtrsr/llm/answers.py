"""Token ids of the two answers, as the tokenizer encodes them after the prompt."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from recbole_llmtrsr.errors import UserError


def answer_token_ids(
    tokenizer: PreTrainedTokenizerBase, slot_text: str, answers: tuple[str, str], separator: str
) -> tuple[int, int]:
    """Ids of the (positive, negative) answer, each the one token that follows the answer slot.

    Args:
        slot_text: the end of the prompt, up to the answer slot.
        answers: positive and negative answer.
        separator: text between slot and answer, often one space.

    Raises:
        UserError: with all errors at once: an answer has several tokens, merges with the slot or is unknown, or both
            answers are equal.

    Deviation: the authors look up the words in the vocabulary, which can find tokens that never occur at the slot.
    """
    slot_ids = tokenizer.encode(slot_text, add_special_tokens=False)
    faults, found = [], []
    for answer in answers:
        ids = tokenizer.encode(slot_text + separator + answer, add_special_tokens=False)
        tail = ids[len(slot_ids) :]
        if ids[: len(slot_ids)] != slot_ids:
            faults.append(
                f"answer {answer!r} merges with the end of the prompt {slot_text[-20:]!r} in this tokenizer: "
                f"end the prompt or begin the answer differently (separator: {separator!r})"
            )
        elif len(tail) != 1:
            pieces = [tokenizer.decode([token_id]) for token_id in tail]
            faults.append(
                f"answer {answer!r} becomes {len(tail)} tokens {pieces} with this tokenizer: "
                f"choose answers that are single tokens (answers: {list(answers)})"
            )
        elif tail[0] == tokenizer.unk_token_id:
            faults.append(f"answer {answer!r} is unknown to this tokenizer: choose others (answers: {list(answers)})")
        else:
            found.append(tail[0])
    if not faults and found[0] == found[1]:
        faults.append(
            f"answers {list(answers)} become the same token {found[0]} with this tokenizer: choose two different"
            " answers"
        )
    if faults:
        raise UserError(faults)
    return found[0], found[1]
