"""The property file that a conversion writes beside the data, with which a first run needs no other option."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import yaml

from recbole_llmtrsr.config.sources import properties_dir
from recbole_llmtrsr.data.prepare.atomic import atomic_paths
from recbole_llmtrsr.runtime.atomic_write import atomic_write
from recbole_llmtrsr.runtime.command_line import program

_HINTS = """
# By default the last event of each user is the test target, the event before it the validation target, and each target
# is ranked against 20 items drawn at random. Other protocols, one of them at a time:
# eval_args: {split: {US: [0.8, 0.1, 0.1]}}   # Other users in validation and test than in training.
# eval_args: {split: {TS: [0.8, 0.1, 0.1]}}   # The latest events of all users are the test.
# eval_args: {mode: full}                     # Rank the whole catalogue; with a large one, set a retriever too.
# user_inter_num_interval: "[5,inf)"          # Leave out users with fewer than five events.
"""


def write_starter(out: Path, converter: str) -> str:
    """Write ``<out>/<name of out>.yaml`` unless there is one.

    Args:
        out: folder of the converted files.
        converter: that wrote them.

    Returns:
        the lines to print: the file, and the command of a first run.
    """
    file = atomic_paths(out, ["yaml"])[0]
    if file.exists():
        file_line = f"options: {file} exists and was not changed; delete it to have it written anew"
    else:
        with atomic_write(file) as stream:
            stream.write(_content(out, converter).encode())
        file_line = f"options: {file}, to be edited as you like"
    command = f"{program('run', 'recbole_llmtrsr')} --model=LLMTRSR --config_files={shlex.quote(str(file))}"
    return f"{file_line}\nnext: {command}"


def _content(out: Path, converter: str) -> str:
    folder = Path(os.path.abspath(out))
    place = {"data_path": str(out.parent if out.name == folder.name else folder.parent), "dataset": folder.name}
    known = _known_properties(out, converter)
    options = known.read_text(encoding="utf-8") if known else _options_of_table(out)
    return (
        f"# Options of the data set '{folder.name}'; a run reads them with --config_files=<this file>. data_path is"
        f" relative to the\n# folder in which the run is started.\n{yaml.safe_dump(place)}\n{options}{_HINTS}"
    )


def _known_properties(out: Path, converter: str) -> Path | None:
    """Our property file of the data set, or of the converter's data sets."""
    item_file = atomic_paths(out, ["item"])[0]
    with_plots = ["movielens-tmdb"] if converter == "movielens" and "overview" in _texts(item_file) else []
    files = (properties_dir() / "dataset" / f"{name}.yaml" for name in (item_file.stem, *with_plots, converter))
    return next((file for file in files if file.is_file()), None)


def _options_of_table(out: Path) -> str:
    fields = yaml.safe_dump(_texts(atomic_paths(out, ["item"])[0]), default_flow_style=True, width=1000).strip()
    return f"""\
# Wording of the prompts: generic, news, products or movies.
domain: generic
# Columns of the .item file that make an item's text, in this order.
item_text_fields: {fields}
load_col:
  inter: [user_id, item_id, timestamp]
"""


def _texts(item_file: Path) -> list[str]:
    """Names of the columns of texts."""
    with item_file.open(encoding="utf-8") as lines:
        columns = lines.readline().rstrip("\n").split("\t")
    return [column.removesuffix(":token_seq") for column in columns if column.endswith(":token_seq")]
