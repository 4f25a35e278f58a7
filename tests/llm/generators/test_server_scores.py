"""Scores from log-probabilities that a server states: which tokens are the answers, and which servers are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from scoring_server import ScoringHandler, Top, scoring

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators import server_requests
from recbole_llmtrsr.llm.generators.generation import GenerationFailure
from recbole_llmtrsr.llm.generators.server_replies import FirstToken, read_first_token
from recbole_llmtrsr.llm.generators.server_scores import AnswerLogprobs, ServerScores

pytest.importorskip("openai", reason="needs the extra 'server'")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_requests, "FIRST_DELAY", 0.002)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "meant-for-somebody-else")


def scorer(url: str, **options: Any) -> ServerScores:
    usual: dict[str, Any] = {"api_key": None, "concurrency": 4, "timeout": 5.0, "retries": 2}
    return ServerScores("tiny", url, **{**usual, "answers": ("yes", "no"), "chat": True, **options})


def found(*logprobs: tuple[str, float]) -> AnswerLogprobs:
    return AnswerLogprobs.of(FirstToken(logprobs, 1, 0), ("yes", "no"))


def test_the_score_is_the_difference_of_the_two_log_probabilities() -> None:
    assert found(("yes", -1.0), ("The", -1.5), ("no", -3.0)).log_odds == 2.0


@pytest.mark.parametrize("token", ["yes", " yes", "\u2581yes", "\u0120yes"])
def test_a_space_in_front_may_belong_to_the_token(token: str) -> None:
    assert found((token, -1.0), (token.replace("yes", "no"), -2.5)).log_odds == 1.5


def test_tokens_of_one_answer_are_summed() -> None:
    both = found(("yes", math.log(0.25)), (" yes", math.log(0.25)), ("no", math.log(0.125)))
    assert both.log_odds == pytest.approx(math.log(4.0))


@pytest.mark.parametrize("token", ["Yes", "YES", "yes.", "yes ", "yesterday", "y", ""])
def test_other_words_are_not_the_answer(token: str) -> None:
    assert found((token, -0.5), ("no", -2.0), ("x", -4.0)).yes is None


def test_a_missing_answer_has_the_bound_of_the_least_likely_token() -> None:
    no_alone, neither = found(("The", -0.5), ("no", -2.0), ("x", -4.0)), found(("The", -0.5), ("x", -4.0))
    assert (no_alone.log_odds, no_alone.n_missing) == (-2.0, 1)
    assert (neither.log_odds, neither.n_missing, neither.first) == (0.0, 2, "The")


@pytest.mark.parametrize("chat", [True, False])
def test_each_prompt_gets_the_score_of_its_own_answer(chat: bool) -> None:
    with scoring() as server:
        asked = scorer(server.url, chat=chat)
        scores = dict(asked.scores([f"item {n}" for n in range(12)]))
    odds = [scores[n].log_odds for n in range(12)]
    assert odds == pytest.approx([n / 3 - 2 for n in range(12)])
    assert {one.prompt_tokens for one in scores.values()} == {7}
    assert asked.report() == {"requests": 12}
    (path,) = {body["path"] for body in server.bodies}
    assert path == ("/v1/chat/completions" if chat else "/v1/completions")
    assert {body["max_tokens"] for body in server.bodies} == {1}
    assert {body["temperature"] for body in server.bodies} == {0}


def test_control_tokens_of_a_prompt_are_broken_and_fields_are_added() -> None:
    with scoring() as server:
        list(scorer(server.url, request={"min_p": 0.5, "top_logprobs": 50}, api_key="sk-key").scores(["a<|im_end|>1"]))
    (body,) = server.bodies
    assert body["messages"] == [{"role": "user", "content": "a< |im_end|>1"}]
    assert (body["min_p"], body["top_logprobs"]) == (0.5, 50)
    assert server.keys == {"Bearer sk-key"}


@pytest.mark.parametrize(("most", "n"), [(1000, 100), (20, 20), (5, 5)])
def test_as_many_tokens_are_requested_as_the_server_takes(most: int, n: int) -> None:
    with scoring(most=most) as server:
        asked = scorer(server.url)
        assert len(list(asked.scores([f"item {n}" for n in range(9)]))) == 9
    assert asked.n_top == n
    assert [body["top_logprobs"] for body in server.bodies[-8:]] == [n] * 8  # found out with the first prompt


def test_a_server_that_takes_no_number_is_refused_with_its_words() -> None:
    with scoring(most=0) as server, pytest.raises(UserError) as fault:
        list(scorer(server.url).scores(["item 1"] * 100))
    assert "openai:tiny@http://127.0.0.1" in str(fault.value)
    assert "gave no score for a prompt (status 400: Requested sample logprobs of 5, which is greater" in str(
        fault.value
    )
    assert "choose another server" in str(fault.value)
    assert len(server.bodies) == 3


class New(ScoringHandler):
    def scored(self, text: str, request: dict[str, Any], chat: bool) -> None:
        if "max_tokens" in request:
            self.reply(400, {"error": {"message": "Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead."}})
        else:
            super().scored(text, request, chat)


def test_newer_models_get_the_limit_under_its_new_name() -> None:
    with scoring(New) as server:
        assert len(list(scorer(server.url).scores(["item 1", "item 2"]))) == 2
    assert [body.get("max_completion_tokens") for body in server.bodies] == [None, 1, 1]


def without(*names: str) -> Callable[[Any, Top, bool], dict[str, Any]]:
    def body(self: Any, top: Top, chat: bool) -> dict[str, Any]:
        (choice,) = ScoringHandler.body(self, top, chat)["choices"]
        return {"choices": [{name: value for name, value in choice.items() if name not in names}]}

    return body


def twice(self: Any, top: Top, chat: bool) -> dict[str, Any]:
    reply = ScoringHandler.body(self, top, chat)
    return {"choices": reply["choices"] * 2}


def chosen_alone(self: Any, top: Top, chat: bool) -> dict[str, Any]:
    reply = ScoringHandler.body(self, top, chat)
    reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = []
    return reply


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (without("logprobs"), "returns no log-probabilities of the most likely first tokens"),
        (chosen_alone, "returns no log-probabilities of the most likely first tokens"),
        (twice, "returns 2 answers to one prompt: remove n from scorer_request"),
    ],
)
def test_a_server_whose_replies_have_no_score_is_refused_after_one_request(body: Any, said: str) -> None:
    with scoring(body=body) as server, pytest.raises(UserError) as fault:
        list(scorer(server.url).scores([f"item {n}" for n in range(100)]))
    assert said in str(fault.value)
    assert f"scorer 'openai:tiny@{server.url}'" in str(fault.value)
    assert len(server.bodies) == 1


def test_the_other_kind_of_request_is_named() -> None:
    for chat, other in ((True, "never"), (False, "auto")):
        with scoring(body=without("logprobs")) as server, pytest.raises(UserError, match=f"chat_template: {other}"):
            list(scorer(server.url, chat=chat).scores(["item 1"]))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "refuses requests without a key .* scorer_api_key_variable"),
        (404, "has no model 'tiny'"),
        (400, "gave no score for a prompt .*chat_template: never"),
        (500, "gave no score for a prompt .*finished scores are in the store.*summarizer_timeout"),
    ],
)
def test_a_prompt_without_a_score_ends_the_run(status: int, said: str) -> None:
    def scored(self: Any, text: str, request: dict[str, Any], chat: bool) -> None:
        if "item 3" in text:
            self.reply(status, {"error": "no"})
        else:
            ScoringHandler.scored(self, text, request, chat)

    with scoring(scored=scored) as server, pytest.raises(UserError, match=said):
        list(scorer(server.url, concurrency=1).scores([f"item {n}" for n in range(100)]))
    assert server.attempts["item 3"] == (3 if status == 500 else 1)
    assert len(server.attempts) == 4


def test_a_context_that_is_too_short_is_named_before_the_first_prompt() -> None:
    with scoring() as server, pytest.raises(UserError, match="5000 tokens, too few .*set max_prompt_tokens: 4936 or"):
        list(scorer(server.url, max_prompt_tokens=4937).scores(["item 1"]))
    assert server.bodies == []
    with scoring() as server:
        assert len(list(scorer(server.url, max_prompt_tokens=4936).scores(["item 1"]))) == 1


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="scorer 'openai:tiny@http://127.0.0.1:9/v1' cannot be reached"):
        list(scorer("http://127.0.0.1:9/v1", retries=0).scores(["item 1"]))


def test_the_settings_hold_all_that_determines_a_score() -> None:
    one = scorer("http://a/v1").settings
    assert one == scorer("http://b/v1", concurrency=9, timeout=1.0, retries=0, api_key="k").settings
    others = [{"answers": ("Yes", "No")}, {"chat": False}, {"request": {"min_p": 1}}]
    assert all(scorer("http://a/v1", **other).settings != one for other in others)


@pytest.mark.parametrize(
    "logprobs",
    [
        {
            "content": [
                {"token": "a", "top_logprobs": [{"token": "a", "logprob": -1}, {"token": " b", "logprob": -2.5}]}
            ]
        },
        {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [{"a": -1, " b": -2.5}]},
    ],
)
def test_both_forms_of_log_probabilities_are_read(logprobs: dict[str, Any]) -> None:
    body = json.dumps({"choices": [{"logprobs": logprobs}], "usage": {"prompt_tokens": 5}})
    assert read_first_token(body) == FirstToken([("a", -1.0), (" b", -2.5)], 1, 5)


@pytest.mark.parametrize("value", ["null", "-Infinity", "NaN", "-9999.0", '"-1"', "0.5"])
def test_what_is_no_log_probability_is_left_out(value: str) -> None:
    body = f'{{"choices": [{{"logprobs": {{"top_logprobs": [{{"a": -1, "b": {value}}}]}}}}]}}'
    assert read_first_token(body) == FirstToken([("a", -1.0)], 1, 0)


@pytest.mark.parametrize("logprobs", ["null", "{}", '{"content": null}', '{"top_logprobs": null}', '{"content": []}'])
def test_a_reply_without_log_probabilities_has_no_tokens(logprobs: str) -> None:
    assert read_first_token(f'{{"choices": [{{"logprobs": {logprobs}}}]}}') == FirstToken([], 1, 0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<html>", "not json"),
        ("[" * 200_000, "not json"),
        *((body, "no choices") for body in ("7", "[]", "{}", '{"choices": []}', '{"choices": [7]}')),
        *(
            (f'{{"choices": [{{"logprobs": {logprobs}}}]}}', "no choices")
            for logprobs in ('{"content": [7]}', '{"content": 7}', '{"top_logprobs": [7]}', "7")
        ),
    ],
)
def test_a_reply_of_another_shape_is_a_failure_that_is_tried_again(body: str, reason: str) -> None:
    failure = read_first_token(body)
    assert isinstance(failure, GenerationFailure)
    assert failure.reason == reason
