"""Turns errors that RecBole raises while it sets up a run into a UserError that names the options of the run."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.utils.memory import should_reduce_batch_size

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.option_kinds import options_of
from recbole_llmtrsr.errors import DISK_FAULTS, UserError

_LONGEST = 60  # characters of a value
_OURS = __name__.partition(".")[0]


@contextmanager
def setting_up(config: Config, part: str) -> Iterator[None]:
    """Turn errors of RecBole in this block, which sets up a part such as 'the model', into `UserError`s.

    Errors of this package are not changed, since their traceback is needed; nor is that of a full disk.

    Raises:
        UserError: with RecBole's message and the options that were set, unless ``state: DEBUG``.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        is_disk = isinstance(error, OSError) and error.errno in DISK_FAULTS
        is_wanted = str(config["state"]).lower() == "debug"
        if is_wanted or is_disk or not _is_of_host(error) or should_reduce_batch_size(error):
            raise
        words = str(error) or traceback.extract_tb(error.__traceback__)[-1].line  # of a bare assert
        raise UserError(
            f"RecBole cannot set up {part} of {config.label} on dataset '{config['dataset']}':"
            f" {type(error).__name__}: {words}; {_options_in_words(config)} (state: DEBUG shows the traceback)"
        ) from error


def _is_of_host(error: BaseException) -> bool:
    """Whether RecBole, or a library that it called, raised the error, rather than code of this package."""
    packages = [
        str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    return packages[::-1].index("recbole") < packages[::-1].index(_OURS) if "recbole" in packages else False


def _options_in_words(config: Config) -> str:
    free = options_of("free")
    shown = {name: repr(value)[:_LONGEST] for name, value in config.given.items() if name not in free}
    given = ", ".join(f"{name}: {value}" for name, value in sorted(shown.items())) or "none, so the defaults do not fit"
    return f"correct the value that it names; options that were set: {given}"
