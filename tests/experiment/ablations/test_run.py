"""What ablations find out about models of which it is known what they read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from recbole_llmtrsr.experiment.ablations.run import Ablations, run_ablations

CHANCE = sum(1 / rank for rank in range(1, 6)) / 6  # MRR@5 among 6 candidates
NAMES = [
    "shuffled history",
    "no summary",
    "no recent items",
    "another user's summary",
    "ids instead of texts",
    "paraphrased instruction",
]


@dataclass(frozen=True)
class Ablated:
    """A model's MRR@5 by row, in the test and in the same test after all ablations; what can be seen of the model."""

    test: np.ndarray
    ablations: Ablations
    test_again: np.ndarray
    seen_before: dict[str, Any]
    seen_after: dict[str, Any]

    def lost(self, name: str) -> float:
        """What an ablation takes from MRR@5."""
        return float((self.test - self.ablations.rows[name].values["mrr@5"]).mean())


def seen(model: Any) -> dict[str, Any]:
    return {"prompts": id(model.prompts), "work": model.meter.totals(), "trims": dict(model.prompts.trims)}


def ablated(trainer: Any, train: Any, test: Any) -> Ablated:
    trainer.fit(train, None, saved=False)
    trainer.evaluate(test, load_best_model=False)
    values, before = trainer.eval_collector.values["mrr@5"], seen(trainer.model)
    ablations = run_ablations(trainer, test, seed=1)
    after = seen(trainer.model)
    trainer.evaluate(test, load_best_model=False)
    return Ablated(values, ablations, trainer.eval_collector.values["mrr@5"], before, after)


@pytest.fixture(scope="module")
def reads_recent(prepare: Any) -> Ablated:
    """Users walk through the colours in a circle; summaries are noise, and a third of all histories has none."""
    rng = np.random.default_rng(0)
    starts = rng.integers(8, size=120).tolist()
    walks = {f"u{user}": [(start + step) % 8 for step in range(8)] for user, start in enumerate(starts)}

    def noise(dataset: Any) -> dict[int, str]:
        return {i: ("", "likes tea", "likes salt")[rng.integers(3)] for i in range(len(dataset.histories))}

    return ablated(*prepare(walks, noise))


@pytest.fixture(scope="module")
def reads_summary(prepare: Any) -> Ablated:
    """Users jump at random, and the summary names the colour that comes next."""
    walks = {f"u{n}": walk.tolist() for n, walk in enumerate(np.random.default_rng(0).integers(8, size=(120, 8)))}

    def told(dataset: Any) -> dict[int, str]:
        return {i: f"wants {dataset.item(item).line}" for i, item in enumerate(dataset.histories.items)}

    return ablated(*prepare(walks, told, epochs=10))


def test_a_model_of_the_recent_items_loses_all_without_them_and_nothing_without_the_summary(
    reads_recent: Ablated,
) -> None:
    best = float(reads_recent.test.mean())
    assert best > 0.9
    for name in ("no recent items", "shuffled history", "ids instead of texts"):
        assert best - reads_recent.lost(name) < CHANCE + 0.1, name
    for name in ("no summary", "another user's summary"):
        assert abs(reads_recent.lost(name)) < 0.02, name


@pytest.mark.slow
def test_a_model_of_the_summary_loses_all_without_it_and_little_without_the_recent_items(
    reads_summary: Ablated,
) -> None:
    best = float(reads_summary.test.mean())
    assert best > 0.8
    for name in ("no summary", "another user's summary"):
        assert best - reads_summary.lost(name) < CHANCE + 0.1, name
    assert reads_summary.lost("ids instead of texts") > 0.25
    for name in ("no recent items", "shuffled history"):
        assert abs(reads_summary.lost(name)) < 0.05, name


def test_every_ablation_has_a_value_and_a_rank_for_each_row_of_the_test(reads_recent: Ablated) -> None:
    assert list(reads_recent.ablations.rows) == NAMES
    assert reads_recent.ablations.left_out == {}
    for rows in reads_recent.ablations.rows.values():
        assert rows.values["mrr@5"].shape == rows.ranks.shape == reads_recent.test.shape == (120,)
        within = rows.ranks == 1
        assert (rows.values["mrr@5"][within] == 1).all()


@pytest.mark.slow
def test_an_ablation_tells_how_many_histories_it_changed(reads_recent: Ablated, reads_summary: Ablated) -> None:
    counts = {name: rows.n_changed for name, rows in reads_recent.ablations.rows.items()}
    with_summary = counts["no summary"]
    assert 60 < with_summary < 100  # a third of the summaries is missing, and is not taken away
    assert counts["another user's summary"] == with_summary  # nor replaced
    assert counts["no recent items"] == counts["ids instead of texts"] == counts["paraphrased instruction"] == 120
    assert {rows.n_changed for rows in reads_summary.ablations.rows.values()} >= {120}


@pytest.mark.slow
def test_a_model_is_after_its_ablations_as_before(reads_recent: Ablated, reads_summary: Ablated) -> None:
    for model in (reads_recent, reads_summary):
        assert model.seen_after == model.seen_before
        assert np.array_equal(model.test_again, model.test)


WALKS = {f"u{user}": [(user * 3 + step * 5) % 8 for step in range(6)] for user in range(6)}


def told_by_position(dataset: Any) -> dict[int, str]:
    return {i: f"summary {i}" for i in range(len(dataset.histories))}


def test_the_seed_alone_decides_what_is_drawn(prepare: Any) -> None:
    trainer, _, test = prepare(WALKS, told_by_position)
    first, second, other = (run_ablations(trainer, test, seed=seed) for seed in (1, 1, 2))
    for name in NAMES:
        assert np.array_equal(first.rows[name].ranks, second.rows[name].ranks), name
        drawn = name in ("shuffled history", "another user's summary")
        assert np.array_equal(first.rows[name].ranks, other.rows[name].ranks) is not drawn, name


def test_an_ablation_that_has_nothing_to_change_is_left_out_with_the_reason(prepare: Any) -> None:
    trainer, _, test = prepare(WALKS, summary="none")
    ablations = run_ablations(trainer, test, seed=1)
    assert list(ablations.rows) == [
        "shuffled history",
        "no recent items",
        "ids instead of texts",
        "paraphrased instruction",
    ]
    assert ablations.left_out == {
        "no summary": "the prompts have no summary (summary: none)",
        "another user's summary": "the prompts have no summary (summary: none)",
    }


def test_an_ablation_that_fails_leaves_the_model_as_it_was(prepare: Any) -> None:
    trainer, _, test = prepare(WALKS, told_by_position)
    model = trainer.model

    def prompts() -> list[list[int]]:
        return [model._prefix(i).tolist() for i in test._dataset.inter_feat["history_id"].tolist()]

    own = prompts()
    before = seen(model)
    trainer.wandblogger.log_wandb = True
    predict, evaluate = model.predict, trainer.evaluate

    def failing(*args: Any, **kwargs: Any) -> None:
        predict(*args, **kwargs)
        raise RuntimeError("the device is gone")

    def evaluated(*args: Any, **kwargs: Any) -> Any:
        assert trainer.wandblogger.log_wandb is False
        assert prompts() != own
        model.predict = failing
        return evaluate(*args, **kwargs)

    trainer.evaluate = evaluated
    with pytest.raises(RuntimeError, match="the device is gone"):
        run_ablations(trainer, test, seed=1)
    assert seen(model) == before
    assert trainer.wandblogger.log_wandb is True
    model.prompts._prefixes.clear()
    assert prompts() == own
