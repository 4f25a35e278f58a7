"""Prints the documentation page of all options: python -m recbole_llmtrsr.config.options_page > docs/options.md"""

from __future__ import annotations

import dataclasses
from itertools import groupby
from typing import Any, get_type_hints

from recbole_llmtrsr.config.settings import Settings, all_options, choice_names, type_name

_BEFORE = """\
# Options

Set an option on the command line (`--block_size=10`), in a property file (`block_size: 10`, passed with
`--config_files`), or in Python (`config_dict={"block_size": 10}`). In a comparison, a prefix restricts an option to one
model: `--SASRec.epochs=20`.

This page lists the options that the package adds to RecBole. The default column shows the default in the code; the
files `properties/model/<name>.yaml` and `properties/dataset/<name>.yaml` override it for some models and data sets.
`~` is YAML's empty value. A *target* is an event (interaction) to be predicted, and its *history* the user's events
before it. "Paper" refers to LLM-TRSR (Zheng et al., WWW 2024).

RecBole's options keep their names and meaning
([RecBole's documentation](https://recbole.io/docs/user_guide/config_settings.html)), with two differences:

- `eval_args` may be given in part. The missing keys come from `properties/quick_start_config/protocol.yaml`
  (leave-one-out split, 20 uniformly sampled negatives).
- A misspelt option is an error, with the nearest existing name.

Three of RecBole's options matter most for a language model. `train_batch_size` and `eval_batch_size` count rows, that
is, histories times candidates. `train_neg_sample_args: {sample_num: 8}` sets the number of negatives per training
target.
"""
_BEHIND = """
## Wording

`prompt_templates` can replace these templates:

- of the ranking prompt: `instruction`, `instruction_without_summary`, `paraphrase` and `paraphrase_without_summary`
  (for the ablation), `summary_header`, `recent_header`, `candidate_header`, `answer_slot`, `none`;
- of the prompts for a language model that summarizes, with their placeholders: `block` (`{items}`), `update`
  (`{summary}`, `{items}`), `merge` (`{summaries}`), `retry`.
"""


def options_page() -> str:
    """The Markdown page: every option with type, default and meaning, grouped by the stage that reads it."""
    hints = get_type_hints(Settings)
    parts = [_BEFORE]
    for group, options in groupby(all_options(), key=lambda option: option[0]):
        meaning = (hints[group].__doc__ or "").strip()
        rows = [_row(spec, kind) for _, spec, kind in options]
        table = ["| option | accepts | default | meaning |", "|---|---|---|---|", *rows]
        parts.append("\n".join(["", f"## {group.capitalize()}", "", meaning, "", *table, ""]))
    return "".join([*parts, _BEHIND])


def _row(spec: dataclasses.Field[Any], kind: object) -> str:
    accepts = " \\| ".join(choice_names(spec, kind)) or type_name(kind)
    if spec.metadata["minimum"] is not None:
        kind_name, is_optional, _ = accepts.partition(" or ~")
        accepts = f"{kind_name} >= {spec.metadata['minimum']}{is_optional}"
    return f"| `{spec.name}` | {accepts} | `{_default(spec)}` | {spec.metadata['doc']} |"


def _default(spec: dataclasses.Field[Any]) -> str:
    value = spec.default if spec.default is not dataclasses.MISSING else {}
    if value is None:
        return "~"
    return str(list(value) if isinstance(value, tuple) else value).replace("'", "")


if __name__ == "__main__":
    print(options_page(), end="")
