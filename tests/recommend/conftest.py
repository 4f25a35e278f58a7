"""Tiny runs, trained once, with the scores that their own trainers gave in the test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import toy

import recbole_llmtrsr.experiment.pipeline as pipeline
from recbole_llmtrsr.experiment.evaluation_stage import FinalTest
from recbole_llmtrsr.explain import candidate_scores, explain
from recbole_llmtrsr.quick_start import compare

N_USERS, N_EVENTS, N_ITEMS = 12, 9, 23
KINDS, THINGS = ("red", "blue", "old", "silk", "oak"), ("kettle", "lamp", "desk", "rug", "chair")
TINY = {
    **{name: value for name, value in toy.TINY.items() if name != "candidate_exclusion"},
    **{"epochs": 2, "learning_rate": 0.02, "block_size": 2, "builtin_vocab_size": 500, "eval_args": {"mode": "uni5"}},
    **{"metrics": ["Recall", "MRR"], "topk": [1, 5], "valid_metric": "MRR@5"},
}


@dataclass
class Trained:
    """A finished run: its folder, its result, and by user what the trainer knew at the end."""

    folder: Path
    result: dict[str, Any]
    scores: dict[str, dict[str, float]]
    histories: dict[str, list[str]]
    summaries: dict[str, str | None]
    prompts: dict[str, tuple[str, str]]  # user -> the target, and the whole prompt that asks for it


def write_toy(folder: Path, name: str = "toy", titles: dict[str, str] | None = None) -> None:
    """12 users with nine events each, of 23 items."""
    events = [
        f"u{u}\ti{(5 * u + t * (1 + u % 3)) % N_ITEMS}\t{t}\t{1 + (u + t) % 5}"
        for u in range(N_USERS)
        for t in range(N_EVENTS)
    ]
    items = [
        f"i{n}\t{(titles or {}).get(f'i{n}', f'{KINDS[n % 5]} {THINGS[n // 5]}')}\t{('Oslo', 'Graz', 'Turku')[n % 3]}"
        for n in range(N_ITEMS)
    ]
    toy.write_atomic(folder / name, [*events, "once\ti1\t0\t3"], items, "\trating:float", "\tmaker:token")


@pytest.fixture(scope="session")
def write_data() -> Callable[..., None]:
    """Writes the data set."""
    return write_toy


@pytest.fixture(scope="session")
def tiny_options() -> dict[str, Any]:
    """Options of the runs."""
    return dict(TINY)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the runs of a module are started; the tests are there, too."""
    folder = tmp_path_factory.mktemp("home")
    write_toy(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def train(home: Path) -> Callable[..., Trained]:
    """Trains a model and notes what its trainer gives for every user of the test."""
    numbers = itertools.count()
    whole_test = FinalTest.table

    def run(model: str = "LLMTRSR", **options: Any) -> Trained:
        folder = home / "out" / str(next(numbers))
        found = Trained(folder, {}, {}, {}, {}, {})

        def noting(self: FinalTest, loader: Any) -> Any:
            dataset, model = loader._dataset, self._trainer.model
            if getattr(model, "reads_candidates", False):
                for user in map(str, dataset.field2id_token["user_id"][dataset.inter_feat["user_id"].unique()]):
                    scores = candidate_scores(self._trainer, loader, user)
                    with_summary = dataset.config.settings.summary.summary != "none"
                    none = type("NoCalls", (), {"calls_of": lambda self, history: ()})() if with_summary else None
                    told = explain(user, dataset, none, model.prompts)
                    found.scores[user] = {dataset.item_tokens[i]: score for i, score in (scores or {}).items()}
                    found.histories[user] = [item.token for item in told.history]
                    found.summaries[user] = told.summary
                    found.prompts[user] = told.target.token, "".join(section.text for section in told.sections)
            return whole_test(self, loader)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline.FinalTest, "table", noting)
            (result,), _ = compare([model], "toy", config_dict={**TINY, "result_dir": str(folder), **options})
        found.result = result
        return found

    return run


@pytest.fixture(scope="module")
def trained(train: Callable[..., Trained]) -> Trained:
    """A run with summaries of the extractive writer."""
    return train()
