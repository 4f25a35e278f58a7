"""The generator behind a server that fails as each prompt says (``faulty_server``)."""

from __future__ import annotations

import json
import logging
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from itertools import islice
from typing import Any

import pytest
from faulty_server import FaultyServer, serving

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators import server as server_module
from recbole_llmtrsr.llm.generators import server_requests
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.llm.generators.server import ServerGenerator
from recbole_llmtrsr.llm.generators.server_client import parse_server
from recbole_llmtrsr.llm.generators.server_replies import read_error, read_reply, read_wait
from recbole_llmtrsr.llm.tokenization.thoughts import without_thoughts

pytest.importorskip("openai", reason="needs the extra 'server'")

KEY = "sk-very/secret+key"


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_requests, "FIRST_DELAY", 0.002)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "meant-for-somebody-else")


def generator(url: str, model: str = "tiny", **options: Any) -> ServerGenerator:
    usual: dict[str, Any] = {"api_key": None, "concurrency": 4, "timeout": 5.0, "retries": 3}
    return ServerGenerator(model, url, **{**usual, **options})


def texts(answers: Iterator[tuple[int, GeneratedText | GenerationFailure]]) -> dict[int, str]:
    """Text or reason by position; positions that come twice are an error."""
    found: dict[int, str] = {}
    for position, answer in answers:
        assert position not in found
        found[position] = answer.text if isinstance(answer, GeneratedText) else f"-> {answer.reason}"
    return found


def portals() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "portal" in thread.name]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "status 429"),
        ("429after0", "status 429"),
        ("408", "status 408"),
        ("500", "status 500"),
        ("503after0", "status 503"),
        ("garbage", "not json"),
        ("nothing", "not json"),
        ("shapeless", "no choices"),
        ("half", "connection"),
        ("deep", "not json"),
        ("charset", "no choices"),
        ("hangup", "connection"),
        ("never", "timeout"),
        ("drip", "timeout"),
    ],
)
def test_a_passing_fault_is_retried_and_a_lasting_one_named_after_the_last_attempt(
    server: FaultyServer, fault: str, reason: str
) -> None:
    timeout = 0.4 if reason == "timeout" else 5.0
    asked = generator(server.url, retries=2, timeout=timeout)
    prompts = [f"{fault}*2|second", f"{fault}*9|never", "plain"]
    assert texts(asked.generate(prompts, 5)) == {0: "second!", 1: f"-> {reason}", 2: "plain!"}
    assert server.attempts == {prompts[0]: 3, prompts[1]: 3, "plain": 1}
    assert asked.report() == {"requests": 7, f"retries_{reason.replace(' ', '_')}": 4}


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_a_prompt_that_the_server_does_not_take_is_not_sent_again(server: FaultyServer, status: str) -> None:
    asked = generator(server.url)
    assert texts(asked.generate([f"{status}*9|too long"], 5)) == {0: f"-> status {status}"}
    assert asked.report() == {"requests": 1}


def test_a_server_that_drips_does_not_outlive_the_time_limit(server: FaultyServer) -> None:
    start = time.monotonic()
    assert texts(generator(server.url, retries=0, timeout=0.3).generate(["drip*9|x"], 5)) == {0: "-> timeout"}
    assert 0.3 <= time.monotonic() - start < 2.0


def test_the_time_that_a_server_asks_for_is_waited(server: FaultyServer) -> None:
    assert texts(generator(server.url).generate(["429after0.4*1|x"], 5)) == {0: "x!"}
    assert 0.4 <= server.times[1] - server.times[0] < 1.5


def test_delays_grow_and_are_bounded(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_requests, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(server_requests, "LONGEST_DELAY", 0.2)
    assert texts(generator(server.url).generate(["503*3|x"], 5)) == {0: "x!"}
    gaps = [after - before for before, after in zip(server.times, server.times[1:])]
    assert [gap >= least for gap, least in zip(gaps, (0.05, 0.1, 0.2))] == [True] * 3
    assert texts(generator(server.url).generate(["429after3600*1|x"], 5)) == {0: "x!"}


def test_answers_belong_to_their_prompts_whatever_order_they_come_in(server: FaultyServer) -> None:
    prompts = [f"slow|{seconds}" for seconds in ("0.4", "0.3", "0.2", "0.1", "0.0")]
    answers = list(generator(server.url, concurrency=5).generate(prompts, 5))
    assert [position for position, _ in answers] == [4, 3, 2, 1, 0]
    assert texts(iter(answers)) == {0: "0.4!", 1: "0.3!", 2: "0.2!", 3: "0.1!", 4: "0.0!"}


def test_every_prompt_ends_once_through_a_storm_of_faults(server: FaultyServer) -> None:
    faults = ["429", "429after0", "500", "503", "garbage", "nothing", "shapeless", "half", "hangup", "never", "drip"]
    kinds = [f"{fault}*{times}" for fault in faults for times in (1, 2, 9)] + ["plain", "400*9"] * 30
    random.Random(7).shuffle(kinds)
    prompts = [f"{kind}|{position}" for position, kind in enumerate(kinds)]
    answers = texts(generator(server.url, concurrency=16, timeout=0.4).generate(prompts, 5))
    assert sorted(answers) == list(range(len(prompts)))
    for position, kind in enumerate(kinds):
        assert answers[position].startswith("-> ") if "*9" in kind else answers[position] == f"{position}!", kind
    assert sum(answer.startswith("-> ") for answer in answers.values()) == 11 + 30


@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_bound_on_requests_under_way_is_kept_and_reached(server: FaultyServer, concurrency: int) -> None:
    prompts = [*["slow|0.02"] * 10, "500*2|x"]
    assert len(texts(generator(server.url, concurrency=concurrency).generate(prompts, 5))) == 11
    assert server.most_under_way == concurrency


def test_a_request_is_greedy_and_bounded_and_says_nothing_that_a_server_may_not_know(server: FaultyServer) -> None:
    list(generator(server.url).generate(["é"], 5))
    message = {"role": "user", "content": "é"}
    assert server.bodies == [{"model": "tiny", "messages": [message], "temperature": 0, "max_tokens": 5}]
    assert server.keys == {"Bearer none"}


def test_further_fields_of_a_request_are_sent_and_belong_to_what_answers_are_known_by(server: FaultyServer) -> None:
    switch = {"chat_template_kwargs": {"enable_thinking": False}}
    asked = generator(server.url, request=switch)
    list(asked.generate(["x"], 5))
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert asked.settings == {**generator(server.url).settings, "request": switch}


def test_what_reads_like_a_special_token_in_a_prompt_is_broken_before_a_server_reads_it(server):
    list(generator(server.url).generate(["A chair<|im_end|></s>[/INST] 1 < 2"], 5))
    assert server.bodies[-1]["messages"][0]["content"] == "A chair< |im_end|>< /s>[ /INST] 1 < 2"


def test_a_server_that_wants_the_new_name_of_the_limit_is_told_it_for_good(server: FaultyServer) -> None:
    asked = generator(server.url, concurrency=1)
    assert texts(asked.generate(["new|a", "new|b"], 5)) == {0: "a!", 1: "b!"}
    assert texts(asked.generate(["new|c"], 5)) == {0: "c!"}
    limits = [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in server.bodies]
    assert limits == [(5, None), (None, 5), (None, 5), (None, 5)]


def test_tokens_are_the_servers_count_or_an_estimate_and_seconds_are_shared_out(server: FaultyServer) -> None:
    asked = generator(server.url)
    prompts = ["counted|ab", "long|ab", "silent|ab"]
    answers = dict(asked.generate(prompts, 5))
    assert [(a.text, a.prompt_tokens, a.new_tokens, a.finish) for _, a in sorted(answers.items())] == [
        ("ab!", 7, 3, "stop"),
        ("ab!", 3, 1, "length"),
        ("", 3, 0, "stop"),
    ]
    start = time.perf_counter()
    seconds = [answer.seconds for _, answer in asked.generate(["slow|0.2"] * 8, 5)]
    assert 0.4 <= sum(seconds) <= time.perf_counter() - start


def test_making_one_and_asking_nothing_need_no_server() -> None:
    asked = generator("http://127.0.0.1:9/v1", context=4096)
    assert list(asked.generate([], 5)) == []
    assert asked.max_prompt_tokens == 4096 - 64
    assert asked.report() == {"requests": 0}


def test_its_answers_are_known_by_the_model_and_not_by_the_place_or_the_key() -> None:
    here, there = generator("http://here/v1", api_key=KEY), generator("http://there/v1")
    assert here.settings == there.settings == {
        "kind": "server", "model": "tiny", "temperature": 0, "bytes_per_token": 3, "context": 4096
    }  # fmt: skip
    assert here.name == there.name == "openai:tiny"


def test_the_context_is_the_users_and_never_asked_because_it_decides_what_is_cut(server: FaultyServer) -> None:
    assert generator(server.url).max_prompt_tokens == 4096 - 64
    assert generator(server.url, context=500).max_prompt_tokens == 500 - 64
    assert generator(server.url).settings != generator(server.url, context=500).settings
    server.models = [{"id": "tiny", "max_model_len": 1000}]
    with pytest.raises(
        UserError, match=r"has a context of 1000 tokens, but summarizer_context is 4096: set summarizer_context: 1000"
    ):
        texts(generator(server.url).generate(["x"], 5))
    assert texts(generator(server.url, context=1000).generate(["x"], 5)) == {0: "x!"}


@pytest.mark.parametrize("models", [None, "x", ["x"], [{}], [{"id": "tiny", "max_model_len": "x"}]])
def test_a_list_of_models_of_any_shape_stops_nothing(server: FaultyServer, models: Any) -> None:
    server.models = models
    asked = generator(server.url)
    assert texts(asked.generate(["x"], 5)) == {0: "x!"}
    assert asked.max_prompt_tokens == 4096 - 64


@pytest.mark.parametrize(("status", "retries"), [(403, 0), (404, 0), (500, 0), (503, 3)])
def test_a_server_that_lists_no_models_is_asked_all_the_same(server: FaultyServer, status: int, retries: int) -> None:
    server.models_status = status
    asked = generator(server.url)
    assert texts(asked.generate(["x"], 5)) == {0: "x!"}
    assert asked.report().get(f"retries_status_{status}", 0) == retries


def test_tokens_are_over_estimated_and_cut_between_characters() -> None:
    asked = generator("http://here/v1")
    assert [asked.count_tokens(text) for text in ("", "a", "abc", "abcd", "水水")] == [0, 1, 1, 2, 2]
    assert asked.trim("aé水b", 1) == "aé"
    assert asked.trim("aé水b", 2) == "aé水"
    assert asked.trim("ab水b", 1) == "ab"
    assert [asked.trim("abcd", n) for n in (0, 1, 2, 9)] == ["", "abc", "abcd", "abcd"]


def test_a_server_that_is_not_there_is_named_after_the_retries() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    asked = generator(url)
    fault = (
        f"summarizer 'openai:tiny@{url}' cannot be reached .connection: .*: start the server, or correct the base url"
    )
    with pytest.raises(UserError, match=fault):
        list(asked.generate(["x"], 5))
    assert asked.report()["retries_connection"] == 3
    assert portals() == []


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_refused_key_is_a_user_error_that_does_not_show_it(
    server: FaultyServer, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = generator(server.url, api_key=f"{KEY}\n")
    with caplog.at_level(logging.DEBUG), pytest.raises(UserError) as fault:
        list(asked.generate([f"{status}*9|x"] * 9, 5))
    assert server.keys == {f"Bearer {KEY}"}
    assert str(fault.value) == (
        f"summarizer 'openai:tiny@{server.url}' refuses the key (status {status}: no, Bearer <key>, because of"
        f" {status}): put a valid key into the environment variable that summarizer_api_key_variable names"
    )
    error: BaseException | None = fault.value
    while error is not None:
        assert KEY not in repr(error)
        error = error.__cause__ or error.__context__
    assert "secret" not in f"{caplog.text} {asked!r} {asked.settings} {asked.report()} {vars(asked)}"
    with pytest.raises(UserError, match="refuses requests without a key"):
        list(generator(server.url).generate([f"{status}*9|x"], 5))


def test_a_key_that_a_server_refuses_at_first_contact_is_told_at_once(server: FaultyServer) -> None:
    server.models_status = 401
    with pytest.raises(UserError, match="refuses the key"):
        list(generator(server.url, api_key=KEY).generate(["x"], 5))


def test_a_success_that_echoes_the_key_does_not_show_it(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PATIENCE", 0)
    asked = generator(server.url, api_key=KEY, retries=0, concurrency=1)
    with pytest.raises(UserError, match="no choices.*Bearer <key>") as fault:
        list(asked.generate([f"echo*9|{n}" for n in range(9)], 5))
    assert KEY not in str(fault.value)


@pytest.mark.parametrize("key", ["se cret", "sécret", "sec\nret"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(key: str) -> None:
    with pytest.raises(UserError, match="correct the environment variable") as fault:
        generator("http://here/v1", api_key=key)
    assert key not in str(fault.value)


def test_a_model_that_the_server_does_not_have_is_met_with_those_it_has(server: FaultyServer) -> None:
    server.models = [{"id": name} for name in ("zeta", "Qwen3-8B", "Llama")]
    with pytest.raises(UserError) as fault:
        list(generator(server.url, "Qwen3-7B").generate(["404*9|x"], 5))
    assert str(fault.value) == (
        f"summarizer 'openai:Qwen3-7B@{server.url}' has no model 'Qwen3-7B' (status 404: no, Bearer none, because of"
        " 404): it lists Llama, Qwen3-8B, zeta (did you mean 'Qwen3-8B'?); check the base url, too, which"
        " usually ends in /v1"
    )


def test_it_stops_when_nothing_is_answered_any_more_and_keeps_what_was(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "PATIENCE", 3)
    asked = generator(server.url, concurrency=1, retries=0)
    prompts = ["500*9|a", "500*9|b", "500*9|c", "x", "500*9|d", "500*9|e"]
    assert len(texts(asked.generate(prompts, 5))) == 6  # three in a row, and two
    answers: list[int] = []
    with pytest.raises(
        UserError, match="gave no answer to 4 prompts in a row .status 500: no.*from which a rerun continues"
    ):
        for position, _ in asked.generate(["500*9|f", "500*9|g", "x"], 5):
            answers.append(position)
    assert answers == [0]
    assert server.attempts["x"] == 1


def test_more_requests_at_a_time_may_fail_together(server: FaultyServer) -> None:
    assert len(texts(generator(server.url, concurrency=20, retries=0).generate(["500*99|x"] * 40, 5))) == 40
    with pytest.raises(UserError, match="gave no answer to 41 prompts in a row"):
        list(generator(server.url, concurrency=20, retries=0).generate(["500*99|x"] * 41, 5))


def test_a_refusal_ends_the_requests_under_way(server: FaultyServer) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match="has no model"):
        list(generator(server.url, timeout=3).generate(["never*9|x", "404*9|x", "never*9|y"], 5))
    assert time.monotonic() - start < 2
    assert portals() == []


def test_requests_are_not_lines_of_the_log(server: FaultyServer, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    with caplog.at_level(logging.INFO):
        list(generator(server.url).generate(["x"], 5))
    assert caplog.messages == []


def test_closing_early_leaves_no_thread_and_makes_no_more_requests(server: FaultyServer) -> None:
    answers = generator(server.url, concurrency=2).generate(["x", "y", *["never*9|z"] * 50], 5)
    assert len(list(islice(answers, 2))) == 2
    assert len(portals()) == 1
    answers.close()  # type: ignore[attr-defined]
    assert portals() == []
    n_requests = len(server.bodies)
    time.sleep(0.2)
    assert len(server.bodies) == n_requests <= 4


def test_an_interrupt_ends_what_is_under_way(server: FaultyServer) -> None:
    # Programs that run in the background of a script ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = threading.Timer(0.4, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    interrupt.start()
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(generator(server.url, timeout=30).generate(["never*9|x"] * 9, 5))
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 5
    assert portals() == []


def test_it_runs_where_an_event_loop_runs_already(server: FaultyServer) -> None:
    import asyncio

    async def notebook() -> dict[int, str]:
        return texts(generator(server.url).generate(["x"], 5))

    assert asyncio.run(notebook()) == {0: "x!"}


ENVIRONMENT = [
    ("ALL_PROXY", "socks5://127.0.0.1:9", "ImportError"),
    ("all_proxy", "socks://127.0.0.1:9", "ValueError"),
    ("HTTP_PROXY", "http://127.0.0.1:nine", "InvalidURL"),
    ("SSL_CERT_FILE", "/nowhere/certificates.pem", "FileNotFoundError"),
]


@pytest.mark.parametrize(("variable", "value"), [*((n, v) for n, v, _ in ENVIRONMENT), ("http_proxy", "127.0.0.1:9")])
def test_a_server_on_this_machine_is_asked_directly(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv(variable, value)
    assert texts(generator(server.url).generate(["x"], 5)) == {0: "x!"}


@pytest.mark.parametrize(("variable", "value", "kind"), ENVIRONMENT)
def test_an_environment_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, kind: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"{kind}: .* because of the environment: .*{variable}={value}.*unset it"):
        list(generator("http://server.invalid/v1").generate(["x"], 5))


def test_a_proxy_that_is_not_there_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:hush@127.0.0.1:9")
    with pytest.raises(UserError) as fault:
        list(generator("http://server.invalid/v1", retries=0).generate(["x"], 5))
    assert "cannot be reached (through the proxy of HTTP_PROXY=http://127.0.0.1:9) (connection" in str(fault.value)
    assert str(fault.value).endswith("or correct the proxy, or add the server's host to NO_PROXY")
    assert "hush" not in str(fault.value)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_requests, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "recbole_llmtrsr\[server\]"'):
        generator("http://here/v1")


@pytest.mark.parametrize(
    ("value", "model", "url"),
    [
        ("openai:gpt@https://api.openai.com/v1/", "gpt", "https://api.openai.com/v1"),
        ("openai:org/m@v2@http://[::1]:8000/v1", "org/m@v2", "http://[::1]:8000/v1"),
        ("openai:/models/tiny@http://localhost", "/models/tiny", "http://localhost"),
    ],
)
def test_the_url_is_what_follows_the_last_at(value: str, model: str, url: str) -> None:
    assert parse_server(value) == (model, url)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("openai:gpt", "'openai:...' lacks @<base url>: write openai:<model>@<base url>, such as"),
        ("openai:http://localhost:8000/v1", "lacks @<base url>"),
        ("openai:@http://localhost:8000/v1", "lacks a model"),
        ("openai:gpt@localhost:8000/v1", "has the base url 'localhost:8000/v1'; accepted are http://"),
        ("openai:gpt@", "has the base url ''"),
        ("openai:gpt@ftp://host/v1", "has the base url 'ftp://host/v1'"),
        ("openai:gpt@http:///v1", "has the base url 'http:///v1'"),
        ("openai:gpt@http://host:99999/v1", "has the base url 'http://host:99999/v1'"),
        ("openai:gpt@http://[::1/v1", "has the base url"),
        ("openai:gpt@http://ho st/v1", "has the base url"),
        ("openai:gpt@http://host/v1?a=b", "has the base url"),
    ],
)
def test_what_is_no_server_is_named_with_the_form(value: str, fault: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_server(value)
    assert fault in str(raised.value)
    assert "openai:Qwen/Qwen3-8B@http://localhost:8000/v1" in str(raised.value)


def test_a_password_in_a_url_is_refused_unseen() -> None:
    with pytest.raises(UserError, match="name or password in its url: remove it.*summarizer_api_key_var") as fault:
        parse_server("openai:gpt@https://me:hush@host/v1")
    assert "hush" not in str(fault.value)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None, "reasoning_content": "Okay, the user wants"}, ""),  # what vLLM parses away
        ({"content": "", "reasoning": "Okay"}, ""),
        ({"content": "Lamps.", "reasoning_content": "Okay"}, "Lamps."),
        ({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Lamps."}]}, "Lamps."),  # Mistral
        ({"content": None}, ""),
    ],
)
def test_thoughts_that_a_server_parses_away_are_no_answer(message: dict[str, Any], text: str) -> None:
    reply = read_reply(json.dumps({"choices": [{"message": message}]}))
    assert isinstance(reply, GeneratedText)
    assert without_thoughts(reply.text) == (text, not text and bool(message.keys() - {"content"}))


@pytest.mark.parametrize(
    "body",
    [
        *("[]", "7", "null", '{"error": "x"}'),
        *(
            f'{{"choices": [{{"message": {message}}}]}}'
            for message in ('{"content": 7}', '{"content": ["x"]}', '{"content": [{"type": "text"}]}', "7", "[]")
        ),
    ],
)
def test_json_of_another_shape_has_no_choices(body: str) -> None:
    assert getattr(read_reply(body), "reason", None) == "no choices"


def test_errors_are_read_from_every_place_that_servers_put_them() -> None:
    said = [{"error": {"message": "a"}}, {"error": "a"}, {"detail": "a"}, {"message": "a"}, "a", " a\n"]
    assert [read_error(body) for body in said] == ["a"] * 6
    assert read_error({"detail": [{"loc": 1}]}) == '[{"loc": 1}]'


def test_the_time_to_wait_is_a_number_or_a_date() -> None:
    values = ["2.5", "soon", "", "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT"]
    assert [read_wait({"retry-after": value}) for value in values] == [2.5, 0.0, 0.0, 0.0]
    assert read_wait({}) == 0.0
    assert read_wait({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) < 0
    assert 3000 < read_wait({"retry-after": formatdate(time.time() + 3600, usegmt=True)}) <= 3600


@pytest.mark.parametrize("wait", ["nan", "inf", "-1"])
def test_a_time_to_wait_that_is_none_is_bounded(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, wait: str
) -> None:
    monkeypatch.setattr(server_requests, "LONGEST_DELAY", 0.1)
    assert texts(generator(server.url).generate([f"429after{wait}*1|x"], 5)) == {0: "x!"}


@pytest.mark.parametrize("count", ["-1", "1" + "0" * 30, '"7"', "null"])
def test_a_count_that_is_none_is_left_to_the_estimate(count: str) -> None:
    choice = '"choices": [{"message": {"content": "a"}}]'
    counted = read_reply(f'{{{choice}, "usage": {{"prompt_tokens": {count}, "completion_tokens": 2}}}}')
    assert counted == GeneratedText("a", 0, 2)
    assert read_reply(f'{{{choice}, "usage": 7}}') == GeneratedText("a")
