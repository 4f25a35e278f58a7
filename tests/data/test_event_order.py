from __future__ import annotations

import logging

import pytest

from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.registry import get_dataset

MODELS = ("LLMTRSR", "SASRec", "Pop")


def sequences(config) -> dict[str, list[str]]:
    """Every user's items up to the test's target, in their order."""
    part = get_dataset(config.model_class)(config).build()[2]
    items, users = part.field2id_token["item_id"], part.field2id_token["user_id"]
    rows = zip(*(part.inter_feat[name].tolist() for name in ("user_id", "item_id", HISTORY_ID)), strict=True)
    return {str(users[u]): [*map(str, items[part.histories[h]]), str(items[i])] for u, i, h in rows}


def test_tied_events_are_drawn_alike_for_every_model_and_others_keep_their_order(make_config):
    by_file = sequences(make_config("SASRec"))
    assert by_file["ties"] == ["i9", "i8", "i7", "i6", "i5"]
    drawn = [
        {model: sequences(make_config(model, tied_events="random", data_seed=seed)) for model in MODELS}
        for seed in range(5)
    ]
    for of_models in drawn:
        assert of_models["LLMTRSR"] == of_models["SASRec"] == of_models["Pop"]
        assert {user: own for user, own in of_models["Pop"].items() if user != "ties"} == {
            user: own for user, own in by_file.items() if user != "ties"
        }
    orders = [tuple(of_models["Pop"]["ties"]) for of_models in drawn]
    assert all(sorted(order) == ["i5", "i6", "i7", "i8", "i9"] for order in orders)
    assert len(set(orders)) > 1
    assert len({order[-1] for order in orders}) > 1  # targets are drawn too
    assert sequences(make_config("Pop", tied_events="random", data_seed=0)) == drawn[0]["Pop"]


def test_the_training_seed_draws_no_order(make_config):
    first, second = (sequences(make_config("Pop", tied_events="random", data_seed=1, seed=seed)) for seed in (1, 2))
    assert first == second


@pytest.fixture
def write_ties(atomic_folder):
    """Writes 30 users of these items, all at one time but, if told so, the last; their order in the file."""

    def write(order: list[int], last: int = 7) -> None:
        times = [*(len(order) - 1) * [7], last]
        lines = [f"u{user} {20 * user + item} {time}" for user in range(30) for item, time in zip(order, times)]
        text = "\n".join(["user_id:token item_id:token timestamp:float", *lines, ""])
        (atomic_folder / "tiny" / "tiny.inter").write_text(text.replace(" ", "\t"))

    return write


@pytest.fixture
def told(make_config, caplog):
    """Levels and texts of what a run of Pop logs of tied events."""

    def told(**options) -> list[tuple[str, str]]:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            sequences(make_config("Pop", **options))
        return [
            (record.levelname, record.message) for record in caplog.records if "have the timestamp" in record.message
        ]

    return told


TIED = "events have the timestamp of the user's previous event"


@pytest.mark.parametrize("order", [[8, 9, 10], [10, 9, 8]])
def test_a_file_sorted_by_item_within_one_time_is_warned_of(write_ties, told, order):
    """By number: 8, 9, 10; as texts these would fall and rise."""
    write_ties(order)
    warning = (
        f"60 of 90 {TIED}, and 100% of those with two different items are sorted by item: ID-based models can learn"
        " this order, which item texts do not reveal; set tied_events: random"
    )
    assert told() == [("WARNING", warning)]
    drawn = f"60 of 90 {TIED}; they are shuffled with data_seed 2020"
    assert told(tied_events="random") == [("INFO", drawn)]


def test_repeated_events_tell_no_order(write_ties, told):
    write_ties([8, 8, 8, 10])
    assert [message[:12] for _, message in told()] == ["90 of 120 ev"]  # 60 repeat the one before, 30 rise
    write_ties([8, 8, 8])
    warning = (
        f"60 of 90 {TIED}, so timestamp hardly orders events, and histories are in file order: set TIME_FIELD to a"
        " column of timestamps, or tied_events: random"
    )
    assert told() == [("WARNING", warning)]


def test_ties_in_another_order_are_counted_and_no_ties_are_silent(write_ties, told, atomic_folder):
    write_ties([8, 10, 9], last=8)
    assert told() == [("INFO", f"30 of 90 {TIED}; they remain in file order")]
    path = atomic_folder / "tiny" / "tiny.inter"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(f"{line[:-1]}{i}" for i, line in enumerate(lines[1:])), ""]))
    assert told() == []
