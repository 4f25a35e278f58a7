"""What a command line tells of faults."""

from __future__ import annotations

import errno
import os

import pytest

from recbole_llmtrsr.errors import UserError, exit_code


def failing(error: Exception) -> int:
    raise error


def test_all_faults_of_the_user_are_told_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: failing(UserError(["first", "second"]))) == 2
    assert capsys.readouterr().err == "error: first\nerror: second\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more_is_told_with_the_remedy(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: failing(OSError(number, os.strerror(number), "out/result.json"))) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {os.strerror(number)}: out/result.json: make room or choose another folder")
    assert "--resume=" in told


def test_errors_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(OSError, match="broken"):
        exit_code(lambda: failing(OSError(errno.EPIPE, "broken")))
    with pytest.raises(ValueError, match="wrong"):
        exit_code(lambda: failing(ValueError("wrong")))
