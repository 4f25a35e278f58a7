from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, write_candidate_file
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.evaluation.ranked_rows import RankedRows, ranked_rows, target_words
from recbole_llmtrsr.registry import get_dataset, get_model

TRAINS_TIES = 0  # the data seed with which 'ties' is the user who trains, on i9, i8, i7, i6 and i5


def ranked(config: Any) -> tuple[RankedRows, Any, Any]:
    (_, _, test), *_ = make_loaders(config, get_dataset(get_model(config["model"]))(config))
    return ranked_rows(test), test._dataset, test


def by_row(rows: RankedRows, values: Sequence[Any]) -> dict[tuple[str, int], Any]:
    return dict(zip(zip(rows.users, rows.n_events.tolist()), values, strict=True))


def test_an_impression_with_several_clicks_is_as_known_as_the_most_known_of_them(make_config, atomic_folder):
    shown = [("six", 3, ["i4", "i9"], ["i7"]), ("unix", 5, ["i8"], ["i6"]), ("unix", 6, ["i1", "i4"], ["i6", "i7"])]
    write_candidate_file(atomic_folder / "tiny" / "tiny.impressions.npz", CandidateFile.from_rows(shown))
    eval_args = {"mode": {"valid": "uni2", "test": "impressions"}, "split": {"US": [1, 0, 4]}}
    config = make_config("LLMTRSR", eval_args=eval_args, data_seed=TRAINS_TIES)
    rows, dataset, _ = ranked(config)

    tokens = np.split(dataset.field2id_token["item_id"][rows.targets], rows.begins[1:])
    assert by_row(rows, list(map(sorted, tokens))) == {
        ("six", 3): ["i4", "i9"],
        ("unix", 5): ["i8"],
        ("unix", 6): ["i1", "i4"],
    }
    assert by_row(rows, rows.target_tokens) == {("six", 3): "i4", ("unix", 5): "i8", ("unix", 6): "i1"}
    popularity = rows.largest(dataset.popularity[rows.targets])
    assert by_row(rows, popularity.tolist()) == {("six", 3): 1, ("unix", 5): 1, ("unix", 6): 0}
    words = rows.largest(target_words(config, dataset, rows.targets))  # titles and makers
    assert by_row(rows, words.tolist()) == {("six", 3): 3, ("unix", 5): 3, ("unix", 6): 4}


def test_a_user_whose_targets_share_a_row_is_as_known_as_the_most_known_of_them(make_config):
    rows, dataset, test = ranked(make_config("BPR", eval_args={"split": {"RS": [0.4, 0.0, 0.6]}, "mode": "full"}))

    own: dict[str, list[int]] = {}
    for user, item in zip(dataset.inter_feat["user_id"].tolist(), dataset.inter_feat["item_id"].tolist()):
        own.setdefault(str(dataset.field2id_token["user_id"][user]), []).append(int(dataset.popularity[item]))
    assert max(map(len, own.values())) > 2
    assert any(counts[0] < max(counts) for counts in own.values())
    found = rows.largest(dataset.popularity[rows.targets]).tolist()
    assert dict(zip(rows.users, found, strict=True)) == {user: max(counts) for user, counts in own.items()}
    assert rows.target_tokens == [str(dataset.field2id_token["item_id"][i]) for i in rows.targets[rows.begins]]
    assert rows.users == [str(dataset.field2id_token["user_id"][user]) for user in test.uid_list]


def test_without_a_row_there_is_nothing_to_compare(make_config):
    rows, dataset, _ = ranked(make_config("BPR", eval_args={"split": {"RS": [1.0, 0.0, 0.0]}, "mode": "uni2"}))
    assert rows.largest(dataset.popularity[rows.targets]).tolist() == []
