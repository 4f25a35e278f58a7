from __future__ import annotations

import shlex

import pytest

from recbole_llmtrsr.report.commands import all_typed, typed


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python /home/me/run_recbole_llmtrsr.py --model=A,B", "python run_recbole_llmtrsr.py --model=A,B"),
        ("python run.py '--eval_args={mode: full}' --a=", 'python run.py --eval_args="{mode: full}" --a='),
        ("python run.py '--fields=['\"'\"'title'\"'\"']'", "python run.py --fields=\"['title']\""),
        ("python run.py '--text=\"$HOME\"'", "python run.py --text='\"$HOME\"'"),
        ("recbole-llmtrsr run --model=A", "recbole-llmtrsr run --model=A"),
        ("python /v/recbole_llmtrsr/__main__.py --model=A", "python -m recbole_llmtrsr --model=A"),
        ("python -m recbole_llmtrsr --model=A", "python -m recbole_llmtrsr --model=A"),
        ("run_recbole_llmtrsr(model='A', epochs=1)", "run_recbole_llmtrsr(model='A', epochs=1)"),
        ("python 'no end", "python 'no end"),
        ("python ", "python "),
    ],
)
def test_a_command_is_shown_as_a_user_types_it(command, expected):
    assert typed(command) == expected
    assert typed(expected) == expected


def test_quotes_keep_every_argument():
    arguments = ["--a=x y", "--b=[1,2]", "--c=it's", '--d="$`\\!', "plain words", "--e f=g h", "--n=one\ntwo"]
    assert shlex.split(typed(shlex.join(["python", "run.py", *arguments])))[2:] == arguments


def test_each_command_is_shown_once_and_missing_ones_are_left_out():
    assert all_typed([None, "python a.py", "python /x/a.py", "python b.py"]) == ["python a.py", "python b.py"]
