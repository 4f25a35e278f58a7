"""Converts log-odds to the values that RecBole's metrics compare with labels, probabilities or ratings."""

from __future__ import annotations

from dataclasses import dataclass

from recbole.utils import EvaluatorType
from torch import Tensor

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.errors import UserError


@dataclass(frozen=True)
class Values:
    """Conversion of a model's log-odds to predicted values.

    Attributes:
        span: lowest and highest value; None returns log-odds unchanged, for rankings.

    Source:
        Kang et al., "Do LLMs Understand User Preferences? Evaluating LLMs On User Rating Prediction" (arXiv
        2305.06474).

    Deviation:
        the paper predicts a rating by classification or by a head on the last state. Here P(yes) is scaled to the range
        of the training ratings, so that one prompt and one pair of answers serve all tasks.
    """

    span: tuple[float, float] | None

    @classmethod
    def of(cls, config: Config, train: LLMTRSRDataset) -> Values:
        """Select the conversion by the options and the labels of all training rows.

        Raises:
            UserError: labels are outside of 0 to 1, but the objective is not regression.
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
        """Convert log-odds to values of the same shape."""
        if self.span is None:
            return log_odds
        low, high = self.span
        return low + (high - low) * log_odds.sigmoid()


def check_labels(config: Config) -> None:
    """Refuse options that do not suit the prediction of labels.

    Raises:
        UserError: the options add negatives to labelled rows, or compare candidates.
    """
    training, faults, compare = config.settings.training, [], f"metrics {config['metrics']} compare with labels, but"
    if others := sorted({mode for mode in config["eval_args"]["mode"].values() if mode != "labeled"}):
        faults.append(
            f"{compare} with eval_args mode {others[0]}, rows are targets"
            " and negatives: set eval_args: {mode: labeled}"
        )
    if config["train_neg_sample_args"]["distribution"] != "none":
        faults.append(
            f"{compare} train_neg_sample_args draws negatives and labels all events as positive: set"
            " train_neg_sample_args: ~"
        )
    if training.objective == "listwise":
        faults.append(
            f"metrics {config['metrics']} evaluate each row separately, but objective: listwise compares candidates:"
            " set objective: pointwise for labels of 0 and 1, or regression for ratings"
        )
    if training.train_on == "impressions":
        faults.append("train_on: impressions uses clicks, not labels: set train_on: targets")
    if faults:
        raise UserError(faults)
