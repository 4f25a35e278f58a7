"""The server's flags, and what keeps it from starting."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

import recbole_llmtrsr
from recbole_llmtrsr.serve.__main__ import main

for name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(name)


def refusal(capsys, *arguments):
    assert main(["--run=nowhere", *arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_other_machines_need_a_token(capsys, monkeypatch, host):
    monkeypatch.delenv("RECOMMENDER_TOKEN", raising=False)
    told = refusal(capsys, f"--host={host}")
    assert told.startswith(f"error: host {host} can be reached from other machines")
    assert "put a secret token into it" in told
    monkeypatch.setenv("RECOMMENDER_TOKEN", "")
    assert "is not set" in refusal(capsys, f"--host={host}")


@pytest.mark.parametrize("token", ["short", "with a space in the middle", "ünïcödeünïcödeünïcöde", "x" * 20 + "\n"])
def test_a_token_that_cannot_serve_is_refused_and_not_told(capsys, monkeypatch, token):
    monkeypatch.setenv("OWN_TOKEN", token)
    told = refusal(capsys, "--token_variable=OWN_TOKEN", "--host=0.0.0.0")
    assert "must be at least 16 printable ASCII characters" in told
    assert token.strip() not in told


def test_a_token_lets_it_bind_elsewhere(capsys, monkeypatch):
    monkeypatch.setenv("RECOMMENDER_TOKEN", "x" * 32)
    assert "nowhere holds no result.json" in refusal(capsys, "--host=0.0.0.0")
    monkeypatch.delenv("RECOMMENDER_TOKEN")
    assert "nowhere holds no result.json" in refusal(capsys)


def test_options_are_names_and_values(capsys):
    assert "--option must be name=value, such as data_path=dataset, got 'data'" in refusal(capsys, "--option=data")
    assert "would change what the run's scores mean" in refusal(capsys, "--option=seed=3")


@pytest.mark.parametrize("flag", ["--port=-1", "--max_waiting=0", "--max_body_bytes=x", "--body_seconds=nan"])
def test_numbers_have_bounds(capsys, flag):
    with pytest.raises(SystemExit):
        main(["--run=x", flag])
    assert "must be a number >= " in capsys.readouterr().err


def test_every_flag_is_documented(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    flags = set(re.findall(r"--\w+", told))
    assert flags == {
        *("--help", "--run", "--checkpoint", "--option", "--host", "--port", "--token_variable", "--max_waiting"),
        *("--max_batch_prompts", "--max_body_bytes", "--body_seconds", "--most_prompts", "--shutdown_seconds"),
        *("--answer_seconds", "--access_log"),
    }
    for flag in flags:
        assert re.search(rf"{flag}[^\n]*\n? +\w", told), flag


def started(home, log, *python, token="t" * 32):
    """A process that serves the run, and its port."""
    with log.open("w") as out:
        command = [sys.executable, *python, "--run=out", "--port=0"]
        package = str(Path(recbole_llmtrsr.__file__).parents[1])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": package, "RECOMMENDER_TOKEN": token}
        process = subprocess.Popen(command, cwd=home, stdout=out, stderr=out, env=environment)
    end = time.monotonic() + 60
    while not (port := re.search(r"127\.0\.0\.1:(\d+)", log.read_text())) and time.monotonic() < end:
        time.sleep(0.1)
    return process, port and int(port[1])


def test_the_command_serves_and_ends_at_a_signal(home, warm_python):
    log = home / "serve.log"
    process, port = started(home, log, "-m", "recbole_llmtrsr.serve")
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/health")
        assert connection.getresponse().read().startswith(b'{"status":"ok"')
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
    assert "t" * 32 not in log.read_text()


ENDLESS = """
import sys, torch
from recbole_llmtrsr.recommend import Recommender
from recbole_llmtrsr.serve.__main__ import main

def answer(self, queries):
    while True:
        torch.rand(500, 500) @ torch.rand(500, 500)

Recommender.answer = answer
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_model_that_comes_to_no_end_puts_off_no_end(home, number, warm_python):
    log, seconds = home / f"endless-{number}.log", ("--answer_seconds=1", "--shutdown_seconds=1")
    process, port = started(home, log, "-c", ENDLESS, *seconds, token="")
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        question = '{"user": "u3", "candidates": ["i1"]}'
        connection.request("POST", "/rank", question, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 504
        process.send_signal(number)
        assert process.wait(30) in (0, -number)
    finally:
        process.kill()
    assert "the current batch did not finish within 1 seconds and is abandoned" in log.read_text()


def test_a_missing_extra_is_told(capsys, monkeypatch):
    monkeypatch.setattr("recbole_llmtrsr.serve.__main__.find_spec", lambda name: None if name == "uvicorn" else name)
    assert refusal(capsys) == "error: serving needs uvicorn: pip install '.[serving]'\n"
