"""How well do counts rank impressions, if they use the same data as a language model that trains on impressions?

python benchmarks/clicks_per_show.py [--data=mind] [--config_files="<files of the comparison>"] --out=<folder>
                                     [--run=<folder of a run of a language model> ...]
                                     [--<option>=<value> of that comparison]

Such a language model also learns from items that training users were shown and did not click, whereas Pop and RecBole's
models learn from clicks only. This benchmark ranks by counts over all shows in training, alone or with a model's
scores:

    Clicks                  log(clicks + a)
    ClicksPerShow           log-odds of (clicks + a p) / (shows + a), p the share of clicks among all shows
    ...@LLMSeqSim           the same + w times the cosine of LLMSeqSim (text_encoder: TF-IDF by default)
    ...@<label of a run>    the same + w times the log-odds of yes by that run's model; start in its working directory

a and w are chosen together by the highest ImpressionAUC on the validation set. python -m recbole_llmtrsr.report joins
the folders seed-<seed> below --out with the runs of a comparison.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.sources import Command, flags
from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.make_loaders import CandidateEvalDataLoader
from recbole_llmtrsr.data.loaders.train_impressions import ImpressionTrainDataLoader
from recbole_llmtrsr.evaluation.external import evaluate_scores, write_external
from recbole_llmtrsr.experiment.pipeline import checked_config
from recbole_llmtrsr.experiment.run_data import RunData, load_run_data
from recbole_llmtrsr.experiment.summary_stage import make_summaries
from recbole_llmtrsr.llm.number_format import autocast
from recbole_llmtrsr.recommend.saved_run import SavedRun, load_saved_run
from recbole_llmtrsr.registry import get_model
from recbole_llmtrsr.runtime.clock import Clock

Floats = npt.NDArray[np.float64]
Counts = Mapping[str, tuple[int, int]]  # shows and clicks of each item
Choice = tuple[float, float]  # a and w
Score = Callable[[CandidateFile, Counts, float], Floats]
SPLITS = ("valid", "test")
AUC = "impressionauc"
METRICS = ["recall", "mrr", "ndcg", AUC, "impressionmrr"]
PRIORS = (1, 3, 10, 30, 100, 300)
WEIGHTS = (1, 2, 4, 8, 16)
WEIGHTS_OF_RUNS = (0.125, 0.25, 0.5, 1, 2, 4)
SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mind")
    parser.add_argument("--config_files", default="")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", type=Path, action="append", default=[])
    known, others = parser.parse_known_args()
    command = Command(flags=flags(others))

    runs = [load_saved_run(folder, {}, None) for folder in known.run]
    named = [f"{run.label} with seed {run.config['seed']}" for run in runs]
    if len(set(named)) < len(named):
        raise SystemExit(
            f"--run names {', '.join(named)}, of which some have equal names and seeds: pass these in separate calls,"
            " with different --out"
        )

    def load(model: str, train_on: str, candidates: Mapping[str, str]) -> tuple[Config, RunData]:
        config = checked_config(
            model, known.data, known.config_files.split(), {"seed": SEED, "train_on": train_on}, command
        )
        return config, load_run_data(config, Clock(), candidates)

    _, shown = load("TALLRec", "impressions", {})
    counts = counted(impressions_of(shown.train))
    n_shows, n_clicks = np.sum(list(counts.values()), axis=0)
    print(f"{n_shows:,} shows of {len(counts):,} items and {n_clicks:,} clicks in training")
    config, data = load("LLMSeqSim", "targets", {name: drawn.digest for name, drawn in shown.candidates.items()})
    model = get_model("LLMSeqSim")(config, data.train._dataset).eval()
    files = {split: data.candidates[split].file for split in SPLITS}
    added = [
        Added("", SEED, (0,), {split: np.zeros(len(file.items)) for split, file in files.items()}),
        Added("@LLMSeqSim", SEED, WEIGHTS, {split: scores(model, getattr(data, split)) for split in SPLITS}),
    ]
    added += [of_run(run, {split: file.digest for split, file in files.items()}) for run in runs]

    for name, score in {"Clicks": clicks, "ClicksPerShow": clicks_per_show}.items():
        for what in added:

            def scored(split: str, choice: Choice, score: Score = score, what: Added = what) -> Floats:
                a, w = choice
                return score(files[split], counts, a) + w * what.scores[split]

            ways = {(a, w): scored("valid", (a, w)) for a in PRIORS for w in what.weights}
            choice, found = best(files["valid"], ways)
            told = f"validation {AUC} {found:.4f} with a {choice[0]}, w {choice[1]}"
            table, tested = evaluate_scores(files["test"], scored("test", choice), METRICS, config["topk"])
            label = name + what.suffix
            folder = known.out / label / f"seed-{what.seed}"
            write_external(folder, label, known.data, what.seed, files["test"], table, tested)
            print(f"{label}: {told}; test: {', '.join(f'{key} {value}' for key, value in tested.items())}")


@dataclass(frozen=True)
class Added:
    """Scores to add to counts, for all candidates by split, in the order of the candidate files."""

    suffix: str
    seed: int
    weights: Sequence[float]
    scores: Mapping[str, Floats]


def of_run(run: SavedRun, candidates: Mapping[str, str]) -> Added:
    """Compute the scores of a run's model on the candidates with these hashes, as in its test."""
    data = load_run_data(run.config, Clock(), candidates)
    make_summaries(run.config, run.dataset, [getattr(data, split) for split in SPLITS])
    with autocast(run.config.settings.backbone, run.model.device):
        found = {split: scores(run.model, getattr(data, split)) for split in SPLITS}
    return Added(f"@{run.label}", run.config["seed"], WEIGHTS_OF_RUNS, found)


def impressions_of(loader: ImpressionTrainDataLoader) -> CandidateFile:
    """Return the impressions that the loader yields."""
    given = loader._dataset.inter_feat[HISTORY_ID].numpy()
    return loader.candidates.file.select(np.flatnonzero(np.isin(loader.candidates.history_ids, given)))


def counted(impressions: CandidateFile) -> Counts:
    """Count shows and clicks of each item."""
    n_items = len(impressions.tokens)
    n_shows = np.bincount(impressions.items, minlength=n_items).tolist()
    n_clicks = np.bincount(impressions.items[impressions.is_positive], minlength=n_items).tolist()
    return dict(zip(impressions.tokens.tolist(), zip(n_shows, n_clicks)))


def clicks(candidates: CandidateFile, counts: Counts, a: float) -> Floats:
    """Compute the log of smoothed clicks. [offsets[-1]]"""
    return np.log([counts.get(token, (0, 0))[1] + a for token in candidates.tokens.tolist()])[candidates.items]


def clicks_per_show(candidates: CandidateFile, counts: Counts, a: float) -> Floats:
    """Compute log-odds of a click per show; items that were never shown get the prior. [offsets[-1]]"""
    n_shows, n_clicks = np.sum(list(counts.values()), axis=0)
    found = np.array([counts.get(token, (0, 0)) for token in candidates.tokens.tolist()])
    rates = (found[:, 1] + a * n_clicks / n_shows) / (found[:, 0] + a)
    return np.log(rates / (1 - rates))[candidates.items]


@torch.no_grad()
def scores(model: torch.nn.Module, loader: CandidateEvalDataLoader) -> Floats:
    """Compute the model's score of every candidate, in the order of the file. [offsets[-1]]"""
    found: dict[int, list[float]] = {}
    for rows, *_ in loader:
        for history, score in zip(rows[HISTORY_ID].tolist(), model.predict(rows).tolist()):
            found.setdefault(history, []).append(score)
    return np.concatenate([found[history] for history in loader.candidates.history_ids.tolist()])


def best(valid: CandidateFile, ways: Mapping[Choice, Floats]) -> tuple[Choice, float]:
    """Return the choice with the highest AUC on the validation set, and the first of equal ones."""
    auc = {choice: evaluate_scores(valid, scores, [AUC], [1])[1][AUC] for choice, scores in ways.items()}
    choice = max(auc, key=lambda choice: auc[choice])
    return choice, auc[choice]


if __name__ == "__main__":
    main()
