"""The summarization stage of a run, from options to what is left behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import toy
from tiny_llama import save_llama

from recbole_llmtrsr.__main__ import main
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import GenerationFailure
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.summarizer.writers import make_writer
from recbole_llmtrsr.summarizer.writers.extractive import ExtractiveWriter

# Histories of 'tiny' with at least one event before the target: 0, 1, 2, 5 - 1 for 'ties', 6 and 8 - 1 for the others.
OPTIONS = {**toy.TINY, "eval_args": {"mode": "uni2"}, "block_size": 2, "summary_store": "store.sqlite"}


@pytest.fixture
def run(tmp_path: Path, atomic_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs LLMTRSR on 'tiny' with options; gives the result and its folder."""
    monkeypatch.chdir(tmp_path)

    def run(**options: Any) -> tuple[dict[str, Any], Path]:
        results, folder = compare(["LLMTRSR"], "tiny", config_dict={**OPTIONS, **options})
        return results[0], folder

    return run


def test_a_second_run_makes_no_call_and_learns_the_same(run: Any) -> None:
    first, second = run()[0], run()[0]
    assert first["summaries"]["made"] > 0 == first["summaries"]["found"]
    assert (second["summaries"]["made"], second["summaries"]["found"]) == (0, first["summaries"]["made"])
    assert first["test_result"] == second["test_result"]


def test_a_dry_run_foretells_the_calls_and_leaves_nothing(run: Any, tmp_path: Path) -> None:
    cost, folder = run(dry_run=True)
    assert not folder.exists()
    assert not (tmp_path / "store.sqlite").exists()
    made = run(summarize_only=True)[0]["summaries"]
    kinds = made["calls_by_kind"]
    assert cost["summary_cost"].splitlines()[:4] == [
        f"histories        {made['histories']}",
        f"calls unshared   {made['calls_unshared']}",
        f"calls distinct   {made['calls']}",
        f"calls to make    {made['made']} ({kinds['block']} block, {kinds['merge']} merge)",
    ]
    again = run(dry_run=True)[0]["summary_cost"].splitlines()
    assert again[3:] == ["calls to make    0"]
    longer = run(dry_run=True, block_size=3)[0]["summary_cost"].splitlines()
    assert longer[-1].endswith("(by the writer's calls in the store)")


def test_a_dry_run_measures_a_local_model(run: Any, tmp_path: Path) -> None:
    llama = save_llama(tmp_path / "llama", 1024)
    cost = run(dry_run=True, summarizer=str(llama), summarizer_max_new_tokens=8)[0]["summary_cost"].splitlines()
    assert re.fullmatch(r"estimated time   \S+ s \(at \S+ prompt and \S+ new tokens/s, measured just now\)", cost[-1])
    assert not (tmp_path / "store.sqlite").exists()


def test_summarize_only_stops_before_training_and_its_file_serves_as_summarizer(run: Any, tmp_path: Path) -> None:
    stopped, folder = run(summarize_only=True)
    assert "test_result" not in stopped
    assert not list(tmp_path.glob("saved/*.pth"))
    lines = [json.loads(line) for line in (folder / "summaries.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {tuple(line) for line in lines} == {("user_id", "n_events", "summary")}
    assert len(lines) == stopped["summaries"]["histories"]
    assert {line["n_events"] for line in lines if line["user_id"] == "six"} == {1, 2, 3, 4, 5}

    from_file = run(summarizer=f"file:{folder / 'summaries.jsonl'}")[0]
    assert from_file["summaries"]["from_file"]["exact"] == len(lines)
    assert from_file["test_result"] == run()[0]["test_result"]


def test_what_a_file_does_not_cover_is_counted(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(
        '{"user_id": "six", "n_events": 3, "summary": "Likes lamps."}\n'
        '{"user_id": "nobody", "n_events": 1, "summary": "Likes rugs."}\n',
        encoding="utf-8",
    )
    counts = run(summarizer="file:mine.jsonl")[0]["summaries"]["from_file"]
    # Of the histories of 'six' those of 3 events have it, those of 4 and 5 an earlier one, and those of 1 and 2 none.
    assert (counts["exact"], counts["earlier"], counts["only_later"], counts["unused"]) == (1, 2, 2, 1)
    cost = run(summarizer="file:mine.jsonl", dry_run=True)[0]["summary_cost"]
    assert "exact            1\n" in cost


def lines(*entries: tuple[str, int, str]) -> str:
    rows = ({"user_id": user, "n_events": n, "summary": text} for user, n, text in entries)
    return "".join(json.dumps(row) + "\n" for row in rows)


USERS = ("unix", "twice", "six", "ties", "thrice", "once")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines(("nobody", 1, "Likes rugs.")), "has a summary for none of 18 histories .* must be a user of 'tiny'"),
        (lines(("six", 99, "Likes rugs.")), "has a summary for none of 18 histories .*5 histories later ones alone"),
        (lines(*((user, 1, "") for user in USERS)), "none of 1[89] summaries has any text"),
    ],
)
def test_a_file_without_a_summary_for_any_history_is_refused(
    run: Any, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "mine.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        run(summarizer="file:mine.jsonl", summarize_only=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines(("six", 1, "Likes lamps.")), "has a summary for 5 of 18 histories"),
        (lines(*((user, 1, "Likes lamps.") for user in USERS)), "summaries are equal ('Likes lamps.')"),
    ],
)
def test_a_file_with_few_summaries_or_equal_ones_is_warned_of(
    run: Any, tmp_path: Path, caplog: Any, content: str, message: str
) -> None:
    (tmp_path / "mine.jsonl").write_text(content, encoding="utf-8")
    run(summarizer="file:mine.jsonl", summarize_only=True)
    assert message in caplog.text


def test_extracts_of_items_that_read_the_same_are_empty_and_refused(run: Any, atomic_folder: Path) -> None:
    file = atomic_folder / "tiny" / "tiny.item"
    file.write_text("item_id:token\tmaker:token\n" + "".join(f"i{n}\tOslo\n" for n in range(1, 10)))
    with pytest.raises(UserError, match="summaries has any text.* set summary: none"):
        run(summarize_only=True)


def test_extracts_that_are_empty_for_most_are_told_of(run: Any, atomic_folder: Path, caplog: Any) -> None:
    file = atomic_folder / "tiny" / "tiny.item"
    rows = "".join(f"i{n}\tOslo\t{'A rug' if n == 9 else ''}\n" for n in range(1, 10))
    file.write_text("item_id:token\tmaker:token\ttitle:token_seq\n" + rows)
    run(summarize_only=True)
    assert "summaries have no text, because the items' texts" in caplog.text


def test_histories_without_a_block_are_told_of(run: Any, caplog: Any) -> None:
    run(summarize_only=True, block_size=50, summarize_remainder="no", n_recent_items=49)
    assert "no history has a full block of 50 items" in caplog.text


def test_a_summarizer_that_never_answers_is_refused_and_leaves_nothing(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(ExtractiveWriter):
        name = "silent"

        def run(self, jobs: Any) -> Any:
            yield [(position, GenerationFailure("status 500")) for position in range(len(jobs))]

    monkeypatch.setattr(make_writer, "_registered", {"silent": Silent})
    with pytest.raises(UserError, match=r"summarizer 'silent': none of .* are usable \(failures: {'status 500'"):
        run(summarizer="silent", summary_store=None)
    assert not list(tmp_path.rglob("results/runs/*"))


def test_one_user_is_explained_with_scores_and_without(run: Any) -> None:
    result, folder = run(explain="six")
    page = (folder / "explain-six.html").read_text(encoding="utf-8")
    assert "Large desk" in page
    assert page.count("P(yes)") >= 1
    assert result["test_result"]
    _, folder = run(explain="six", summarize_only=True)
    assert "no model was trained" in (folder / "explain-six.html").read_text(encoding="utf-8")


def test_one_model_alone_can_stop_with_its_summaries(run: Any) -> None:
    options = {**OPTIONS, "LLMTRSR.summarize_only": True}
    for models in (["LLMTRSR", "Pop"], ["Pop", "LLMTRSR"]):
        results, folder = compare(models, "tiny", config_dict=options)
        assert ["test_result" in result for result in results] == [model == "Pop" for model in models]
        assert "| Pop " in (folder / "comparison.md").read_text(encoding="utf-8")


def test_a_file_is_explained_without_blocks_and_calls(run: Any) -> None:
    _, folder = run(summarize_only=True)
    _, folder = run(summarizer=f"file:{folder / 'summaries.jsonl'}", summarize_only=True, explain="six")
    page = (folder / "explain-six.html").read_text(encoding="utf-8")
    assert "No summary covers" not in page
    assert "No call was needed" not in page


def test_an_unknown_user_is_refused_before_anything_is_written(run: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no user 'seven' among the 6 users"):
        run(explain="seven")
    assert not (tmp_path / "store.sqlite").exists()


def test_a_store_that_is_none_is_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("These are notes.", encoding="utf-8")
    with pytest.raises(UserError, match=r"store\.sqlite"):
        run()


def test_the_command_line_prints_the_cost_and_no_table(
    run: Any, atomic_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [
        *("--model=LLMTRSR,Pop", "--dataset=tiny", f"--data_path={atomic_folder}", "--use_gpu=False", "--dry_run=True"),
        *("--eval_args={'mode': 'uni2'}", "--candidate_exclusion=target", "--max_prompt_tokens=400"),
    ]
    assert main(flags) == 0
    printed = capsys.readouterr().out
    assert "LLMTRSR\nhistories " in printed
    assert "results:" not in printed
    assert "|" not in printed.split("LLMTRSR\nhistories ")[1]
