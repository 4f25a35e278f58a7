"""Other programs' scores: every candidate exactly once, and the same metrics as a run with those scores."""

from __future__ import annotations

import json
from math import log2

import pytest

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, write_candidate_file
from recbole_llmtrsr.evaluation.__main__ import main
from recbole_llmtrsr.evaluation.per_history import read_per_history

# Rows differ in length; "007" is no number, and one user has two rows.
CANDIDATES = CandidateFile.from_rows(
    [
        ("b", 3, ["i5"], ["i1", "i2", "i3"]),
        ("007", 12, ["i2", "i9"], ["i1", "i4", "i7"]),
        ("b", 4, ["i1"], ["i2"]),
    ]
)
# Of b after 3 events: one better, one equal. Of 007: first and last. Of b after 4: equal.
SCORES = """\
user,n_events,item,score
b,3,i1,0.9
b,3,i2,0.5
b,3,i3,-1
b,3,i5,0.5
007,12,i1,3
007,12,i2,4
007,12,i4,2
007,12,i7,1
007,12,i9,0
b,4,i2,1e-3
b,4,i1,0.001
"""


@pytest.fixture
def score(tmp_path):
    """Runs the command line on scores given as text."""

    def run(text=SCORES, file_name="scores.csv", made=CANDIDATES, **options):
        file, scores, out = tmp_path / "candidates.npz", tmp_path / file_name, tmp_path / "out"
        write_candidate_file(file, made)
        scores.write_text(text, encoding="utf-8")
        given = {"candidates": file, "scores": scores, "name": "NRMS", "dataset": "tiny", "out": out, **options}
        return main(["score", *(f"--{key}={value}" for key, value in given.items())]), out

    return run


def result(out):
    return json.loads((out / "result.json").read_text(encoding="utf-8"))


def test_the_metrics_are_those_of_the_expected_ranks(score, capsys):
    code, out = score(metrics="MRR,Recall,ImpressionAUC,NDCG", topk="1,3")
    assert code == 0
    expected = {
        "mrr@1": round((0 + 1 + 1 / 2) / 3, 4),
        "mrr@3": round(((1 / 2 + 1 / 3) / 2 + 1 + 3 / 4) / 3, 4),
        "recall@1": round((0 + 1 / 2 + 1 / 2) / 3, 4),
        "recall@3": round((1 + 1 / 2 + 1) / 3, 4),
        "impressionauc": round((1 / 2 + 1 / 2 + 1 / 2) / 3, 4),
        "ndcg@1": round((0 + 1 + 1 / 2) / 3, 4),
        "ndcg@3": round(((1 / log2(3) + 1 / 2) / 2 + 1 / (1 + 1 / log2(3)) + (1 + 1 / log2(3)) / 2) / 3, 4),
    }
    assert result(out)["test_result"] == expected
    assert list(result(out)["test_result"]) == list(expected)
    printed = capsys.readouterr().out
    assert f"mrr@3           {expected['mrr@3']:.4f}\n" in printed
    assert f"3 histories, candidates {CANDIDATES.digest[:12]}" in printed


def test_the_table_has_a_row_per_history_with_unknown_features_left_open(score):
    _, out = score(metrics="MRR", topk="3")
    table = read_per_history(out / "per_history.csv").set_index(["user_id", "n_events"])
    assert table.loc[("007", 12), "rank"] == 3
    assert table.loc[("b", 3), "rank"] == 2.5
    assert table.loc[("b", 4), "rank"] == 1.5
    assert table["n_candidates"].to_dict() == {("007", 12): 5, ("b", 3): 4, ("b", 4): 2}
    assert table["n_positives"].to_dict() == {("007", 12): 2, ("b", 3): 1, ("b", 4): 1}
    assert table["target"].to_dict() == {("007", 12): "i2", ("b", 3): "i5", ("b", 4): "i1"}
    assert table["mrr@3"].to_dict() == pytest.approx({("007", 12): 1, ("b", 3): 5 / 12, ("b", 4): 3 / 4})
    assert table[["target_popularity", "target_words", "prompt_trimmed"]].isna().all(axis=None)


def test_the_result_says_what_was_compared_and_leaves_open_what_is_not_known(score):
    _, out = score(seed=3)
    found = result(out)
    assert (found["label"], found["model"], found["seed"], found["dataset"]) == ("NRMS", "NRMS", 3, "tiny")
    assert found["candidates"]["test"] == {"hash": CANDIDATES.digest, "n_histories": 3}
    assert (found["n_test"], found["cost"], found["epochs_trained"]) == (3, None, None)
    assert found["versions"]["recbole_llmtrsr"]
    assert list(found["test_result"]) == [f"{name}@{k}" for name in ("recall", "mrr", "ndcg") for k in (3, 5, 10)]


def test_order_and_form_of_the_scores_make_no_difference(score):
    tables = []
    lines = SCORES.splitlines()
    rows = [line.split(",") for line in lines[1:]]
    as_json = [{"user": u, "n_events": int(n), "item": i, "score": float(s)} for u, n, i, s in reversed(rows)]
    for name, text in {
        "a.csv": SCORES,
        "b.csv": "\n".join([lines[0], *reversed(lines[1:])]),
        "c.tsv": "\n".join(["score\titem\textra\tn_events\tuser", *(f"{s}\t{i}\tx\t{n}\t{u}" for u, n, i, s in rows)]),
        "d.jsonl": "\n".join(map(json.dumps, as_json)),
    }.items():
        code, out = score(text, name)
        assert code == 0
        tables.append((out / "per_history.csv").read_text())
    assert tables[0] == tables[1] == tables[2] == tables[3]


def test_more_rows_than_are_ranked_at_once_are_ranked_one_by_one_alike(score, monkeypatch):
    _, out = score()
    at_once = (out / "per_history.csv").read_text()
    monkeypatch.setattr("recbole_llmtrsr.evaluation.external._ROWS_AT_ONCE", 1)
    score()
    assert (out / "per_history.csv").read_text() == at_once


def test_all_faults_of_the_scores_are_told_at_once_with_counts_and_the_first_few(score, capsys):
    text = SCORES.replace("b,3,i1,0.9\n", "").replace("007,12,i7,1\n", "")
    text += "b,4,i8,1\n" + "007,12,i1,3\n" + "007,12,i1,3\n"
    text = text.replace("b,3,i2,0.5", "b,3,i2,nan").replace("b,3,i3,-1", "b,3,i3,high").replace("i5,0.5", "i5,inf")
    code, out = score(text)
    assert code == 2
    assert capsys.readouterr().err == (
        "error: 2 candidates have no score: 'i7' of user '007' after 12 events, 'i1' of user 'b' after 3 events\n"
        "error: 1 scores belong to no candidate: 'i8' of user 'b' after 4 events\n"
        "error: 2 scores repeat a candidate: 'i1' of user '007' after 12 events,"
        " 'i1' of user '007' after 12 events\n"
        "error: 3 scores are not finite numbers: 'i2' of user 'b' after 3 events, 'i3' of user 'b' after 3 events,"
        " 'i5' of user 'b' after 3 events\n"
        "error: every one of the 11 candidates needs exactly one finite score\n"
    )
    assert not out.exists()


def test_of_many_faults_five_are_named(score, capsys):
    score("user,n_events,item,score\n")
    error = capsys.readouterr().err
    assert error.startswith("error: 11 candidates have no score: 'i1' of user '007' after 12 events, ")
    assert error.count(" of user ") == 5
    assert ", ...\n" in error


@pytest.mark.parametrize(
    ("text", "name", "fault"),
    [
        ("user,item,score\nb,i1,1\n", "a.csv", "lack the columns n_events: the header must name user, n_events"),
        (SCORES.replace("b,4,i1", "b,4.5,i1"), "a.csv", "a whole number >= 0, which 1 lines violate: 'i1'"),
        (SCORES.replace("b,4,i1", "b,,i1"), "a.csv", "a whole number >= 0, which 1 lines violate"),
        (SCORES + "b,4,i1,0,5\n", "a.csv", "cannot be read: "),
        (SCORES.replace("0.001", "0,001"), "a.csv", "cannot be read: "),
        ("", "a.csv", "cannot be read: No columns to parse"),
        (SCORES, "a.txt", "have an unknown format: the file name must end in .csv, .tsv or .jsonl"),
        ('{"user": "b", "n_events": 3}\n', "a.jsonl", "line 1 must be a JSON object with user, n_events, item, score"),
        ('{"user": "b", "n_events": 3, "item": "i1", "score": [1]}\n', "a.jsonl", "line 1 must be a JSON object"),
        ("[1]\n", "a.jsonl", "line 1 must be a JSON object"),
        ("", "a.jsonl", "11 candidates have no score"),
    ],
)
def test_files_of_another_form_are_refused(score, capsys, text, name, fault):
    code, _ = score(text, name)
    assert code == 2
    assert fault in capsys.readouterr().err


def test_a_decimal_comma_in_every_line_is_no_shifted_column(score, capsys):
    lines = SCORES.replace(".", ",").splitlines()
    padded = [lines[0], *(line if line.count(",") == 4 else f"{line},0" for line in lines[1:])]
    code, _ = score("\n".join(padded))
    assert code == 2
    assert "n_events must be a whole number" in capsys.readouterr().err


def test_the_data_set_is_not_guessed(tmp_path, capsys):
    given = [f"--{name}={tmp_path / name}" for name in ("candidates", "scores", "out")]
    with pytest.raises(SystemExit) as stopped:
        main(["score", *given, "--name=NRMS"])
    assert stopped.value.code == 2
    assert "required: --dataset" in capsys.readouterr().err


def test_missing_files_are_named(score, capsys, tmp_path):
    assert score(scores=tmp_path / "none.csv")[0] == 2
    assert "none.csv cannot be read: No such file" in capsys.readouterr().err
    assert score(candidates=tmp_path / "none.npz")[0] == 2
    assert "none.npz" in capsys.readouterr().err


def test_unknown_metrics_and_numbers_are_refused_together(score, capsys):
    code, _ = score(metrics="Recall,Recal", topk="0,3")
    assert code == 2
    error = capsys.readouterr().err
    assert "metric 'recal' must be one of recall, precision, hit, ndcg, mrr, map, gauc" in error
    assert "topk must hold whole numbers >= 1, got 0" in error


def test_a_file_without_a_row_is_refused(score, capsys):
    code, _ = score("user,n_events,item,score\n", made=CandidateFile.from_rows([]))
    assert code == 2
    assert "has no rows to rank" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(score, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert score(out=tmp_path / "file" / "out")[0] == 2
    assert "set --out to a writable folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            {"topk": "3;5"},
            "argument --topk: must be whole numbers separated by commas, got '3;5': write 3,5,10, for example",
        ),
        ({"seed": "x"}, "argument --seed: must be a whole number, got 'x': write --seed=0, or omit it"),
    ],
)
def test_what_is_no_number_is_told_with_a_remedy(score, capsys, option, said):
    with pytest.raises(SystemExit) as stopped:
        score(**option)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", ["name", "dataset"])
def test_a_name_that_is_no_line_of_text_is_refused(score, capsys, option):
    assert score(**{option: "A\n\\input{x}"})[0] == 2
    assert f"--{option}: the name 'A\\n" in capsys.readouterr().err
