"""TALLRec: LLMTRSR without a summary; the comparison of both measures what the summary adds."""

from __future__ import annotations

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.sequential_recommender.llmtrsr import LLMTRSR


class TALLRec(LLMTRSR):
    """Ranks candidates by P(yes) of a tuned language model that reads only a user's recent items.

    The model equals LLMTRSR except for the summary: it uses the same engine, backbones, training and budgets. Its
    prompts consist of instruction, recent items, candidate and answer slot.

    Source:
        Bao et al., "TALLRec: An Effective and Efficient Tuning Framework to Align Large Language Model with
        Recommendation" (RecSys 2023); Zheng et al. (WWW 2024) compare with it.

    Deviation:
        the paper tunes LLaMA-7B with LoRA twice, on the Alpaca instructions and then on at most 256 examples, with a
        next-token loss on yes or no per example; its prompt lists liked and disliked items and asks whether the user
        will like the candidate. This version tunes any backbone once on all training rows. By default the loss
        compares the candidates of a history (``objective: pointwise`` scores each one separately), and the history is
        one list of the user's items, as in RecBole's sequential models.
    """

    @classmethod
    def check_config(cls, config: Config) -> None:
        """Check the options before any work starts.

        Raises:
            UserError: a summary is set, or `LLMTRSR` rejects the options.
        """
        super().check_config(config)
        summary = config.settings.summary.summary
        if summary != "none":
            raise UserError(
                f"summary must be none for TALLRec, whose prompts hold recent items only, got '{summary}': remove it,"
                f" or set it for the model that uses summaries (LLMTRSR.summary: {summary})"
            )
