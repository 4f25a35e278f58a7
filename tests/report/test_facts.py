from __future__ import annotations

from recbole_llmtrsr.evaluation.comparison.comparison import Row
from recbole_llmtrsr.report.facts import Facts, data, facts, hardware, look_up, options, software


def row(label: str, *results: dict) -> Row:
    return Row(label, tuple(range(len(results))), {}, (), (), results)


def test_what_differs_is_told_apart_from_what_is_the_same():
    named = {"A": {"lr": 0.1, "n_layers": 2}, "B": {"lr": 0.2, "n_layers": 2}, "C": {"lr": None}}
    rows = [row(label, *({**one, "epochs": 3, "seed": seed} for seed in (1, 2))) for label, one in named.items()]
    rows.append(row("D", {}))
    assert facts(rows, lambda result: result) == Facts(
        differing=(("lr", ("0.1", "0.2", "null", "-")),),
        partial=(("n_layers", "2", "A, B"),),
        common=(("epochs", "3"), ("seed", "1 · 2")),
        silent=("D",),
    )


def test_texts_stand_as_they_are_and_other_values_as_json():
    rows = [row("A", {"mode": "uni20", "topk": [3, 5], "empty": "", "on": True, "title": "Größe"})]
    assert facts(rows, lambda result: result).common == (
        ("mode", "uni20"),
        ("topk", "[3, 5]"),
        ("empty", '""'),
        ("on", "true"),
        ("title", "Größe"),
    )


def test_options_of_language_models_are_told_of_models_that_have_one():
    named = {"summary": "recurrent", "backbone": "builtin", "epochs": 2, "candidate_dir": "saved"}
    assert options({"options": named, "summaries": {"made": 5}}) == named
    assert options({"options": named}) == {"epochs": 2, "candidate_dir": "saved"}
    assert options({}) == {}


def test_options_of_gradients_are_not_told_of_models_that_have_none():
    named = {"epochs": 300, "learner": "adam", "learning_rate": 0.001, "stopping_step": 10, "topk": [3]}
    assert options({"options": {**named, "MODEL_TYPE": "ModelType.TRADITIONAL"}}) == {
        "topk": [3],
        "MODEL_TYPE": "ModelType.TRADITIONAL",
    }
    assert options({"options": {**named, "MODEL_TYPE": "ModelType.GENERAL"}})["epochs"] == 300


def test_data_hardware_and_software_are_read_as_far_as_they_are_told(comparison):
    result = comparison.rows[0].results[0]
    assert data(result) == {
        "test rows": "1,200",
        "test candidates, hash": "abcdef0123456789",
        "test candidates, n per history": 3,
        "test candidates, mode": "uni2",
    }
    assert hardware(result) == {"device": "CPU of a test", "peak memory is that of": "the process"}
    assert hardware({"cost": {"measured_peak_flops_per_second": 1.5e12}}) == {"measured peak": "1,500 GFLOP/s"}
    assert software(result) == {"torch": "2.13", "git_commit": "c0ffee"}
    assert (data({}), hardware({"cost": None}), software({})) == ({}, {}, {})


def test_a_missing_value_is_none_however_deep():
    assert look_up({"a": {"b": 1}}, "a", "b") == 1
    assert look_up({"a": None}, "a", "b", "c") is None
    assert look_up({}, "a") is None
