from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import struct
import termios

import pytest

from recbole_llmtrsr.runtime.screen import Bar, ScreenHandler, facts, on_screen, show, width


@pytest.fixture
def shown(monkeypatch, capsys):
    """Reads what messages have written to a screen of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.INFO)
    yield lambda: capsys.readouterr().err
    logger.setLevel(level)


def test_marked_messages_and_warnings_are_shown_and_others_are_not(shown):
    with on_screen():
        show("  data  943 users")
        logging.getLogger("recbole").info("model: Linear()")
        logging.getLogger("x").warning("a word " * 14)
    assert shown().splitlines() == [
        "  data  943 users",
        "warning: a word a word a word a word a word a word a word a word a word a word a",
        "         word a word a word a word",
    ]


def test_verbose_shows_all(shown):
    with on_screen() as screen:
        screen.verbose = True
        logging.getLogger().info("model: Linear()")
    assert shown() == "model: Linear()\n"


def test_an_inner_block_shares_the_handler_of_the_outer_one(shown):
    with on_screen() as outer, on_screen() as inner:
        assert inner is outer
        show("once")
    assert shown() == "once\n"
    assert not any(isinstance(one, ScreenHandler) for one in logging.getLogger().handlers)


def test_facts_are_wrapped_below_their_text(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert facts([("options", "epochs=1, a=" + "x" * 30 + ", b=2"), ("log", "")]).splitlines() == [
        "  options      epochs=1, a=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx,",
        "               b=2",
    ]


@pytest.mark.parametrize(("columns", "used"), [("20", 60), ("80", 80), ("250", 100)])
def test_the_width_is_bounded(columns, used, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert width() == used


def test_a_bar_keeps_to_one_line_of_a_terminal_and_leaves_none():
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(terminal, "w") as screen:
        for _ in Bar(range(5), desc="\x1b[1;35mTrain     0\x1b[0m", ncols=100, file=screen, mininterval=0):
            pass
        screen.flush()
        written = os.read(main, 100_000).decode()
    assert "train 0: 100%" in written
    assert "\n" not in written
    assert max(map(len, written.split("\r"))) <= 80
    assert written.split("\r")[-2].strip() == ""


def test_other_outputs_show_no_bar():
    output = io.StringIO()
    assert list(Bar(range(5), file=output)) == [0, 1, 2, 3, 4]
    assert output.getvalue() == ""
