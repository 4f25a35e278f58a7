"""TALLRec: LLMTRSR without a summary, so that the value of the summary is a row in the table."""

from __future__ import annotations

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.sequential_recommender.llmtrsr import LLMTRSR


class TALLRec(LLMTRSR):
    """Ranks candidates by P(yes) of a tuned language model that reads a user's recent items alone.

    It is LLMTRSR in all but the summary: the same engine, backbones, training and budgets, and a prompt of instruction,
    recent items, candidate and answer slot.

    Source:
        Bao et al., "TALLRec: An Effective and Efficient Tuning Framework to Align Large Language Model with
        Recommendation" (RecSys 2023); Zheng et al. (WWW 2024) compare with it.

    Deviation:
        there LLaMA-7B is tuned with LoRA twice, on the instructions of Alpaca and then on at most 256 examples, with a
        next-token loss on yes or no for each example by itself; the prompt lists what a user liked and what they
        disliked, and asks whether they will like the candidate. Here it is one tuning of any backbone on all training
        rows, by default comparing the candidates of a history (``objective: pointwise`` takes each by itself), and the
        history is one list of what was chosen, as RecBole's sequential models read it.
    """

    @classmethod
    def check_config(cls, config: Config) -> None:
        """Refuse options that this model cannot work with, before any work is done.

        Raises:
            UserError: a summary, or what LLMTRSR refuses.
        """
        super().check_config(config)
        summary = config.settings.summary.summary
        if summary != "none":
            raise UserError(
                f"summary must be none for TALLRec, whose prompts hold recent items only, got '{summary}': remove it,"
                f" or set it for the model that uses summaries (LLMTRSR.summary: {summary})"
            )
