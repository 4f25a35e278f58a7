"""Zero-shot ranking by a model behind a server, end to end on a tiny data set."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import toy
from scoring_server import ScoringHandler, by_digits, scoring

from recbole_llmtrsr.commands.export import main
from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.sources import Command
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.summary_stage import make_summaries
from recbole_llmtrsr.llm.generators import server_requests
from recbole_llmtrsr.llm.generators.server_scores import AnswerLogprobs
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.recommend.recommender import Recommender
from recbole_llmtrsr.registry import get_dataset, get_model
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.summarizer.store.scores import stored_scores

pytest.importorskip("openai", reason="needs the extra 'server'")

N_USERS, N_EVENTS = 8, 7
TINY = {**toy.TINY, "state": "INFO", "result_dir": "out", "block_size": 2, "candidate_exclusion": "history"}
OF_LLMTRSR = [name for name in TINY if name.startswith("builtin_")]


@pytest.fixture(autouse=True)
def toy_in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(server_requests, "FIRST_DELAY", 0.002)
    toy.write_atomic(tmp_path / "data" / "toy", toy.toy_events(*[N_EVENTS] * N_USERS))


def run(url: str, *models: str, **options: Any) -> list[dict[str, Any]]:
    results, _ = compare(list(models or ("LLMTRSR",)), "toy", config_dict={**TINY, **of_server(url), **options})
    return results


def of_server(url: str) -> dict[str, Any]:
    return {"scorer": f"openai:tiny@{url}", "summarizer_retries": 1}


def ranks(folder: str = "out") -> list[float]:
    return pd.read_csv(Path(folder) / "per_history.csv")["rank"].tolist()


def test_the_server_ranks_and_nothing_is_trained(caplog: pytest.LogCaptureFixture) -> None:
    with scoring() as server, caplog.at_level(logging.INFO):
        (result,) = run(server.url)
    n = N_USERS * 4  # one target and three others
    assert len(server.bodies) == n
    assert result["scorer"] == {
        "name": "openai:tiny",
        "prompts": n,
        "from_store": 0,
        "one_answer_missing": 0,
        "both_answers_missing": 0,
        "prompt_tokens": 7 * n,
        "requests": n,
    }
    assert result["weights"] == {"total": 0, "trainable": 0}
    assert (result["epochs_trained"], result["best_valid_score"], result["checkpoint"]) == (0, None, None)
    cost = result["cost"]
    assert (cost["training"]["passes"], cost["validation"]["passes"]) == (0, 0)
    assert (cost["evaluation"]["tokens"], cost["evaluation"]["candidates"]) == (7 * n, n)
    assert cost["operations_not_counted"] == "the model is behind a server, whose operations are not known"
    assert not list(Path("saved").glob("**/*.pth"))
    assert "ranks zero-shot: backbone, tune and all options of training have no effect" in caplog.text


def built(**options: Any) -> tuple[Any, Any]:
    """The model and the loader of the test, whose histories have summaries."""
    model_class = get_model("LLMTRSR")
    config = Config(model_class, "toy", [], {**TINY, **options}, command=Command())
    dataset = get_dataset(model_class)(config)
    (train, _, test), *_ = make_loaders(config, dataset)
    make_summaries(config, dataset, [train, test])
    return model_class(config, train._dataset), test


def test_each_candidate_has_the_score_of_its_own_prompt() -> None:
    """The server's log-odds of item n, which is titled 'The title of n', are n / 3 - 2."""
    with scoring() as server:
        model, test = built(**of_server(server.url))
        for rows, *_ in test:
            tokens = test._dataset.field2id_token["item_id"][rows["item_id"]]
            expected = [int(token[1:]) / 3 - 2 for token in tokens]
            assert model.predict(rows).tolist() == pytest.approx(expected, abs=1e-5)
    assert len(server.bodies) == N_USERS * 4


def test_it_reads_the_prompts_that_a_local_backbone_reads() -> None:
    with scoring() as server:
        run(server.url)
    read = {body["messages"][0]["content"] for body in server.bodies}
    model, test = built()
    rows = [model.prepare(batch[0]).grouped.prompts for batch in test]
    decode = model.backbone.tokenizer.decode
    local = {decode([*p, *c]) for part in rows for p, own in zip(part.prefixes, part.candidates) for c in own}
    assert read == local


def test_a_second_run_takes_all_scores_from_the_store() -> None:
    with scoring() as server:
        (first,) = run(server.url)
        before = ranks()
        n = len(server.bodies)
        (second,) = run(server.url, result_dir="second")
        assert len(server.bodies) == n
        assert second["test_result"] == first["test_result"]
        assert ranks("second") == before
        assert (second["scorer"]["from_store"], second["scorer"]["requests"]) == (n, 0)
        assert second["cost"]["evaluation"]["tokens"] == 0
        run(server.url, result_dir="third", answers=["no", "yes"])  # others are asked again
        assert len(server.bodies) == 2 * n


def test_finished_scores_are_kept_where_a_run_ends() -> None:
    def scored(self: Any, text: str, request: dict[str, Any], chat: bool) -> None:
        if len(self.server.attempts) > 20:
            self.reply(503, {})
        else:
            ScoringHandler.scored(self, text, request, chat)

    options = {"summarizer_concurrency": 1, "summarizer_retries": 0}
    with scoring(scored=scored) as server:
        with pytest.raises(UserError, match="scorer .* gave no score for a prompt .status 503"):
            run(server.url, **options)
        assert len(server.bodies) == 21
    with scoring() as server:
        (result,) = run(server.url, **options, result_dir="second")
    assert (result["scorer"]["from_store"], len(server.bodies)) == (20, N_USERS * 4 - 20)


def test_two_runs_at_once_rank_with_the_scores_that_the_store_keeps() -> None:
    """A server's scores differ a little between batches; those that came first are what a later run finds."""
    path = Path("saved/summaries.sqlite")

    def top(text: str) -> Any:
        with stored_scores(path, name, settings) as other:  # another run is faster
            other.put(text, AnswerLogprobs(-1.0, -2.0, -9.0, "yes"))
        return [("no", -0.5), ("yes", -3.0)]

    with scoring(top=top) as server:
        model, test = built(**of_server(server.url))
        name, settings = model.served.name, model.served.settings
        path.parent.mkdir(exist_ok=True)
        with stored_scores(path, name, settings) as model.served.store:
            assert {score for rows, *_ in test for score in model.predict(rows).tolist()} == {1.0}


def test_without_a_store_every_prompt_of_a_run_is_sent_once() -> None:
    with scoring() as server:
        (result,) = run(server.url, summary_store=None, also_test=["pop3"])
    assert max(server.attempts.values()) == 1
    assert result["scorer"]["requests"] == N_USERS * 4


def test_only_histories_of_the_test_are_summarized() -> None:
    with scoring() as server:
        (result,) = run(server.url)
    assert result["summaries"]["histories"] == N_USERS


def test_it_is_compared_on_the_same_candidates() -> None:
    with scoring() as server:
        scorer = {f"LLMTRSR.{name}": value for name, value in of_server(server.url).items()}
        options = {name: value for name, value in TINY.items() if name not in OF_LLMTRSR}
        results, folder = compare(["LLMTRSR", "SASRec", "Pop"], "toy", config_dict={**options, **scorer})
    assert len({result["candidates"]["test"]["hash"] for result in results}) == 1
    table = (folder / "comparison.md").read_text(encoding="utf-8")
    assert all(name in table for name in ("LLMTRSR", "SASRec", "Pop"))
    assert [result["epochs_trained"] for result in results] == [0, 1, 1]


@pytest.mark.parametrize("options", [{}, {"retriever": "Pop", "rerank_top_k": 5, "exclude_seen": "yes"}])
def test_it_ranks_the_whole_catalogue_or_what_is_retrieved(options: dict[str, Any]) -> None:
    with scoring() as server:
        (result,) = run(server.url, eval_args={"mode": "full"}, **options)
    assert len(server.bodies) == N_USERS * (5 if options else toy.N_ITEMS)
    assert result["test_result"]["recall@10"] > 0


def test_the_log_does_not_deny_a_validation_that_tunes_the_blend(caplog: pytest.LogCaptureFixture) -> None:
    options = {"retriever": "Pop", "rerank_top_k": 5, "exclude_seen": "yes", "blend": None}
    with scoring() as server, caplog.at_level(logging.INFO):
        (result,) = run(server.url, eval_args={"mode": "full"}, **options)
    assert result["best_valid_score"] is not None
    assert "there is no checkpoint" in caplog.text
    assert "there is no validation" not in caplog.text


def test_the_limit_of_full_ranking_holds() -> None:
    with scoring() as server, pytest.raises(UserError, match="more than max_full_sort_scores: 10"):
        run(server.url, eval_args={"mode": "full"}, max_full_sort_scores=10)
    assert server.bodies == []


def test_plain_text_is_sent_without_a_chat_template() -> None:
    with scoring() as server:
        run(server.url, chat_template="never", summary="none")
    assert {body["path"] for body in server.bodies} == {"/v1/completions"}
    assert all(body["prompt"].endswith("\nAnswer:") for body in server.bodies)


def test_a_backbone_that_is_not_there_has_no_effect() -> None:
    with scoring() as server:
        (result,) = run(server.url, backbone="/nowhere/model")
    assert result["scorer"]["requests"] == N_USERS * 4


def test_models_without_prompts_tell_that_they_do_not_read_the_scorer(caplog: pytest.LogCaptureFixture) -> None:
    with scoring() as server:
        (result,) = run(server.url, "HLLM")
    assert "scorer has no effect on HLLM, which makes no prompts with candidates" in caplog.text
    assert (result["epochs_trained"], server.bodies) == (1, [])


def test_a_ranking_is_explained() -> None:
    with scoring() as server:
        run(server.url, explain="u3")
    page = Path("out/explain-u3.html").read_text(encoding="utf-8")
    assert "Candidate item:" in page


def test_ablations_are_scored_too() -> None:
    with scoring() as server:
        (result,) = run(server.url, ablations=True)
    assert "no summary" in result["ablations"]["changed"]
    assert len(server.bodies) > N_USERS * 4


def test_missing_answers_are_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    def top(text: str) -> Any:
        number = int(re.findall(r"\d+", text)[-1])
        if number < 3:
            return [("The", -0.1), ("It", -4.0)]
        return [one for one in by_digits(text) if one[0] != "no" or number < 9]

    with scoring(top=top) as server:
        (result,) = run(server.url, state="WARNING")
    n_lost, n = (result["scorer"][name] for name in ("both_answers_missing", "prompts"))
    assert f"first tokens of its answers to {n_lost} of {n} prompts: they score 0" in caplog.text
    numbers = [int(re.findall(r"\d+", text)[-1]) for text in server.attempts]
    assert result["scorer"]["both_answers_missing"] == sum(number < 3 for number in numbers) > 0
    assert result["scorer"]["one_answer_missing"] == sum(number >= 9 for number in numbers) > 0


def test_bounds_of_a_server_that_lists_few_tokens_are_not_reused_where_it_lists_more() -> None:
    def top(text: str) -> Any:
        return [*by_digits(text)[:1], *((f"w{n}", -3.0 - n / 10) for n in range(10)), ("no", -6.0)]

    with scoring(top=top, most=5) as server:
        (few,) = run(server.url)
    with scoring(top=top) as server:
        (more,) = run(server.url, result_dir="second")
    n = N_USERS * 4
    assert (few["scorer"]["one_answer_missing"], more["scorer"]["one_answer_missing"]) == (n, 0)
    assert more["scorer"]["from_store"] == 0


def test_a_server_that_says_other_words_is_refused_after_a_few_prompts() -> None:
    top = [("Yes", math.log(0.6)), ("No", math.log(0.3)), (" The", math.log(0.01))]
    with scoring(top=lambda text: top) as server, pytest.raises(UserError) as fault:
        run(server.url, summarizer_concurrency=1)
    assert 8 <= len(server.bodies) <= 10
    assert "has neither 'yes' nor 'no' among the most likely first tokens of its answers to 8 of 8" in str(fault.value)
    assert "its answers begin with 'Yes' (8): set answers to words that it says, such as answers: [Yes, No]" in str(
        fault.value
    )
    with scoring(top=lambda text: top) as server:
        (result,) = run(server.url, answers=["Yes", "No"], result_dir="second")
    assert result["scorer"]["both_answers_missing"] == 0


def test_a_run_by_a_server_has_no_model_to_load() -> None:
    with scoring() as server:
        run(server.url)
    with pytest.raises(UserError, match="was ranked by openai:tiny@.* a model behind a server, so it has no model to"):
        Recommender.load("out")


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_a_run_by_a_server_has_no_model_to_export(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with scoring() as server:
        run(server.url)
    assert main(["--run=out", f"--{kind}=m"]) == 2
    assert "a model behind a server, so it has no model to load" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scorer": "Qwen/Qwen3-8B"}, "scorer must be 'openai:<model>@<base url>', got 'Qwen/Qwen3-8B'"),
        ({"scorer": "https://me:hush@host/v1"}, "scorer must be 'openai:<model>@<base url>', got 'https'"),
        ({"scorer": "openai:gpt"}, "scorer 'openai:...' lacks @<base url>"),
        ({"scorer": "openai:gpt@http://me:hush@host/v1"}, "scorer_api_key_variable"),
        ({"scorer_request": {"n": 2}}, "scorer_request cannot set n: the scorer reads one complete answer"),
        ({"scorer_request": {"max_tokens": 2}}, "scorer_request cannot set max_tokens: the first token of an answer"),
        ({"scorer": None, "scorer_request": {"a": 1}}, "applies to a server only: leave it out, or set scorer: openai"),
        ({"scorer_api_key_variable": "sk-very-secret"}, "scorer_api_key_variable must be the name of an environment"),
        ({"checkpoint": "data/toy/toy.item"}, "checkpoint has no weights to load into a model behind a server"),
        ({"max_prompt_tokens": 30}, "max_prompt_tokens: 30 is too small"),
    ],
)
def test_what_cannot_be_is_refused_before_any_request(options: dict[str, Any], said: str) -> None:
    with scoring() as server, pytest.raises(UserError) as fault:
        run(server.url, **options)
    assert said in str(fault.value)
    assert not any(secret in str(fault.value) for secret in ("hush", "very-secret"))
    assert server.bodies == []


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(UserError, match="scorer: one process sends all requests, but there are 2"):
        get_model("LLMTRSR").check_config(
            Config(get_model("LLMTRSR"), "toy", [], {**TINY, **of_server("http://here/v1")}, command=Command())
        )


def test_the_key_of_the_scorer_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_API_KEY", "sk-scorer")
    monkeypatch.setenv("SUMMARIZER_API_KEY", "sk-summarizer")
    with scoring() as server:
        run(server.url)
    assert server.keys == {"Bearer sk-scorer"}
    assert not any("sk-scorer" in path.read_text("utf-8", "ignore") for path in Path().rglob("*") if path.is_file())
