"""Do shared-prefix, plain and differently batched scores of one checkpoint agree, on real prompts?

python benchmarks/equal_scores.py [--checkpoint=saved/<file>.pth] [--n_prompts=1000] [--<option>=<value> of that run]

Without a checkpoint, the benchmark first trains the embedded default on ml-100k.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from recbole.data.interaction import Interaction

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.sources import flags
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.experiment.summary_stage import make_summaries
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.registry import get_dataset, get_model
from recbole_llmtrsr.runtime.checkpoints import load_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint")
    parser.add_argument("--n_prompts", type=int, default=1000)
    known, others = parser.parse_known_args()
    options = flags(others)
    checkpoint = load_checkpoint(
        known.checkpoint or compare(["LLMTRSR"], "ml-100k", config_dict=options)[0][0]["checkpoint"]
    )
    made_with = {k: v for k, v in checkpoint["config"].items() if k not in ("device", "data_path", "MODEL_TYPE")}
    config = Config(
        get_model("LLMTRSR"), made_with["dataset"], [], {"checkpoint": None, **_readable(made_with), **options}
    )
    dataset = get_dataset(get_model("LLMTRSR"))(config)
    loaders, *_ = make_loaders(config, dataset)
    make_summaries(config, dataset, loaders)
    model = get_model("LLMTRSR")(config, loaders[0]._dataset).eval()
    model.load_state_dict(checkpoint["state_dict"])

    rows = []
    for batch in loaders[2]:
        rows.append(batch[0])
        if sum(map(len, rows)) >= known.n_prompts:
            break
    rows = _joined(rows)
    with torch.no_grad():
        chosen = model.backbone.attention
        shared = model.predict(rows)
        by_history = torch.empty_like(shared)
        for history in rows["history_id"].unique():
            own = rows["history_id"] == history
            by_history[own] = model.predict(rows[own])
        one_by_one = torch.cat([model.predict(rows[i : i + 1]) for i in range(len(rows))])
        model.backbone.attention = "plain"
        plain = model.predict(rows)
    print(
        f"{len(rows)} prompts of {made_with['dataset']}, {rows['history_id'].unique().numel()} histories;"
        f" attention: {chosen}, weights in {str(model.backbone.transformer.dtype).removeprefix('torch.')}"
    )
    print(f"scores from {shared.min():.3f} to {shared.max():.3f}, standard deviation {shared.std():.3f}")
    for name, other in (
        ("plain rows", plain),
        ("one history at a time", by_history),
        ("one prompt at a time", one_by_one),
    ):
        print(f"largest difference from {name}: {(shared - other).abs().max():.1e}")


def _readable(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that a Config accepts, without those that RecBole derives."""
    derived = ("eval_type", "valid_metric_bigger", "local_rank", "single_spec", "valid_neg_sample_args")
    return {k: v for k, v in options.items() if k not in derived and not k.isupper() and k != "test_neg_sample_args"}


def _joined(rows: list[Interaction]) -> Interaction:
    return Interaction({name: torch.cat([part[name] for part in rows]) for name in rows[0].columns})


if __name__ == "__main__":
    main()
