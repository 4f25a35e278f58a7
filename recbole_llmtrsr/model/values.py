"""Turns log-odds into the values that RecBole's metrics compare with labels: a probability, or a rating."""

from __future__ import annotations

from dataclasses import dataclass

from recbole.utils import EvaluatorType
from torch import Tensor

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.errors import UserError


@dataclass(frozen=True)
class Values:
    """What a model's log-odds stand for.

    Attributes:
        span: lowest and highest value; None leaves log-odds as they are, for rankings.

    Source:
        Kang et al., "Do LLMs Understand User Preferences? Evaluating LLMs On User Rating Prediction" (arXiv
        2305.06474), where a rating is a classification or the output of a head on the last state. Deviation: here it is
        P(yes) over the range of training's ratings, so that one prompt and one pair of answers serve all tasks.
    """

    span: tuple[float, float] | None

    @classmethod
    def of(cls, config: Config, train: LLMTRSRDataset) -> Values:
        """Values by the options and the labels of all training rows.

        Raises:
            UserError: labels are neither 0 nor 1 where they should be.
        """
        if config["eval_type"] != EvaluatorType.VALUE:
            return cls(None)
        if config.settings.training.objective != "regression":
            low, high = train.label_span
            if not 0 <= low <= high <= 1:
                raise UserError(
                    f"labels of '{config['LABEL_FIELD']}' go from {low:g} to {high:g},"
                    " but objective: pointwise accepts only 0 and 1: set threshold: {rating: 4}, or objective:"
                    " regression"
                )
            return cls((0.0, 1.0))
        return cls(train.label_span)

    def __call__(self, log_odds: Tensor) -> Tensor:
        """Values of log-odds, in their shape."""
        if self.span is None:
            return log_odds
        low, high = self.span
        return low + (high - low) * log_odds.sigmoid()


def check_labels(config: Config) -> None:
    """Refuse options under which labels cannot be learned.

    Raises:
        UserError: negatives beside labelled rows, or a comparison of candidates where there are none.
    """
    training, faults, compare = config.settings.training, [], f"metrics {config['metrics']} compare with labels, but"
    if others := sorted({mode for mode in config["eval_args"]["mode"].values() if mode != "labeled"}):
        faults.append(
            f"{compare} under eval_args mode {others[0]} rows are targets"
            " and negatives: set eval_args: {mode: labeled}"
        )
    if config["train_neg_sample_args"]["distribution"] != "none":
        faults.append(
            f"{compare} train_neg_sample_args draws negatives and calls all events a yes: set train_neg_sample_args: ~"
        )
    if training.objective == "listwise":
        faults.append(
            f"metrics {config['metrics']} are of each row by itself: set objective: pointwise, for labels of 0 and 1,"
            " or regression, for ratings"
        )
    if training.train_on == "impressions":
        faults.append("train_on: impressions has no labels but clicks: set train_on: targets")
    if faults:
        raise UserError(faults)
