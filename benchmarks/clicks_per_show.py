"""How far does counting go on impressions, told as much as a language model that trains on them?

python benchmarks/clicks_per_show.py --data=mind --config_files=results/settings/mind.yaml --out=<folder>

Such a model sees what the users of training were shown and did not click; Pop and RecBole's models see clicks alone.
Two rankings without a language model that see as much:

    ClicksPerShow           (clicks + a p) / (shows + a) of an item in training's impressions, p the share of clicks
    ClicksPerShow@tfidf     its log-odds + w times LLMSeqSim's cosine (TF-IDF of the item texts)

The prior's weight a, and then w, are those of the highest ImpressionAUC on validation. The folders of the two below
--out join the runs of a comparison by python -m recbole_llmtrsr.report.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from recbole_llmtrsr.config import Config
from recbole_llmtrsr.data.candidate_file import CandidateFile
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders import CandidateEvalDataLoader
from recbole_llmtrsr.evaluation.clock import Clock
from recbole_llmtrsr.evaluation.external import evaluate_scores, write_external
from recbole_llmtrsr.pipeline import checked_config
from recbole_llmtrsr.registry import get_model
from recbole_llmtrsr.run_data import RunData, load_run_data

Floats = npt.NDArray[np.float64]
AUC, METRICS = "impressionauc", ["recall", "mrr", "ndcg", "impressionauc", "impressionmrr"]
PRIORS, WEIGHTS = (1, 3, 10, 30, 100, 300), (0, 1, 2, 4, 8, 16)
SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mind")
    parser.add_argument("--config_files", default="")
    parser.add_argument("--out", type=Path, required=True)
    known, others = parser.parse_known_args()
    sys.argv = [sys.argv[0], *others]

    def load(model: str, train_on: str) -> tuple[Config, RunData]:
        config = checked_config(model, known.data, known.config_files.split(), {"seed": SEED, "train_on": train_on})
        return config, load_run_data(config, Clock(), {})

    _, shown = load("TALLRec", "impressions")
    shows, clicks = counted(shown.train.candidates.file)
    print(f"{sum(shows.values()):,} shows of {len(shows):,} items and {sum(clicks.values()):,} clicks in training")
    config, data = load("LLMSeqSim", "targets")
    similarity = get_model("LLMSeqSim")(config, data.train._dataset).eval()
    files = {split: data.candidates[split].file for split in ("valid", "test")}
    cosine = {split: cosines(similarity, getattr(data, split)) for split in files}
    rated = {a: {split: log_odds(file, shows, clicks, a) for split, file in files.items()} for a in PRIORS}

    def chosen(name: str, ways: dict[int, dict[str, Floats]]) -> dict[str, Floats]:
        auc = {value: evaluate_scores(files["valid"], way["valid"], [AUC], [3])[1][AUC] for value, way in ways.items()}
        print(f"{name}: validation's ImpressionAUC {', '.join(f'{auc[value]:.4f} with {value}' for value in auc)}")
        return ways[max(auc, key=lambda value: auc[value])]

    rate = chosen("a", rated)
    both = chosen("w", {w: {split: rate[split] + w * cosine[split] for split in files} for w in WEIGHTS})
    for label, scores in {"ClicksPerShow": rate, "ClicksPerShow@tfidf": both}.items():
        table, found = evaluate_scores(files["test"], scores["test"], METRICS, [1, 3, 5, 10])
        write_external(known.out / label, label, known.data, SEED, files["test"], table, found)
        print(label, {name: found[name] for name in ("recall@3", AUC, "impressionmrr", "ndcg@5", "ndcg@10")})


def counted(impressions: CandidateFile) -> tuple[dict[str, int], dict[str, int]]:
    """How often each item was shown, and how often clicked."""
    shows = np.bincount(impressions.items, minlength=len(impressions.tokens)).tolist()
    clicks = np.bincount(impressions.items[impressions.is_positive], minlength=len(impressions.tokens)).tolist()
    tokens = impressions.tokens.tolist()
    return dict(zip(tokens, shows, strict=True)), dict(zip(tokens, clicks, strict=True))


def log_odds(candidates: CandidateFile, shows: dict[str, int], clicks: dict[str, int], a: float) -> Floats:
    """Of the smoothed rate; what was never shown has the prior. [offsets[-1]]"""
    p = sum(clicks.values()) / sum(shows.values())
    tokens = candidates.tokens.tolist()
    rates = np.array([(clicks.get(token, 0) + a * p) / (shows.get(token, 0) + a) for token in tokens])
    return np.log(rates / (1 - rates))[candidates.items]


@torch.no_grad()
def cosines(model: torch.nn.Module, loader: CandidateEvalDataLoader) -> Floats:
    """LLMSeqSim's score of every candidate, in the order of the file. [offsets[-1]]"""
    found: dict[int, list[float]] = {}
    for rows, *_ in loader:
        for history, score in zip(rows[HISTORY_ID].tolist(), model.predict(rows).tolist(), strict=True):
            found.setdefault(history, []).append(score)
    return np.concatenate([found[history] for history in loader.candidates.history_ids.tolist()])


if __name__ == "__main__":
    main()
