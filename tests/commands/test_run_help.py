"""The help of a run shows options with the defaults and the documentation of where they are declared."""

from __future__ import annotations

import argparse

from recbole_llmtrsr.commands.run_help import SHOWN, add_most_used
from recbole_llmtrsr.config.settings import OPTION_NAMES
from recbole_llmtrsr.config.sources import flags, literal, recbole_options


def shown() -> dict[str, str]:
    """Options of the help with their defaults as they are written."""
    parser = argparse.ArgumentParser(add_help=False)
    add_most_used(parser)
    return flags(option for action in parser._actions for option in action.option_strings)


def test_every_shown_option_exists_and_is_shown_once() -> None:
    names = [name for group in SHOWN.values() for name in group]
    assert list(shown()) == names
    assert set(names) <= {*OPTION_NAMES, *recbole_options()}


def test_defaults_are_those_of_a_run_of_llmtrsr_and_can_be_typed() -> None:
    given = {name: literal(text) for name, text in shown().items()}
    assert given["epochs"] == 1  # of the model's property file, not RecBole's 300
    assert given["topk"] == [3, 5, 10]  # of the protocol
    assert given["metrics"] == ["Recall", "MRR", "NDCG"]
    assert given["seed"] == 2020  # RecBole's
    assert given["lora_rank"] == 8  # of the code
    assert given["resume"] is None
    assert not [text for text in shown().values() if " " in text]


def test_the_documentation_is_that_of_the_declaration() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_most_used(parser)
    page = " ".join(parser.format_help().split())
    assert "Number of items in a block, counted from the user's first event (paper: 5)." in page
    assert "The number of training epochs." in page  # in RecBole's property file
