"""The page of all options in docs/: python -m recbole_llmtrsr.config.options_page > docs/options.md"""

from __future__ import annotations

import dataclasses
from itertools import groupby
from typing import Any, get_type_hints

from recbole_llmtrsr.config.settings import Settings, all_options, choice_names, type_name

_BEFORE = """\
# Options

RecBole's options keep their names and meaning ([its documentation](https://recbole.io/docs/user_guide/config_settings.html)).
Two things differ: `eval_args` is merged key by key over the protocol in `properties/quick_start_config/protocol.yaml`
(leave-one-out, 20 uniform negatives), and an option that is nearly one of them is an error. `train_batch_size` and
`eval_batch_size` count rows, as in RecBole: histories times candidates. `train_neg_sample_args: {sample_num: 8}` sets
the negatives of LLMTRSR.

Here are the plugin's own, with the defaults of the code; `properties/model/<name>.yaml` and
`properties/dataset/<name>.yaml` set others.
"""
_BEHIND = """
## Wording

Templates that `prompt_templates` can replace: `instruction`, `instruction_without_summary`, `paraphrase` and
`paraphrase_without_summary` (for the ablation), `summary_header`, `recent_header`, `candidate_header`, `answer_slot`,
`none`, and for an LLM summarizer `block` (`{items}`), `update` (`{summary}`, `{items}`), `merge` (`{summaries}`),
`retry`.
"""


def options_page() -> str:
    """Every option with type, default and meaning, by the stage that reads it, as Markdown."""
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
        accepts += f" >= {spec.metadata['minimum']}"
    return f"| `{spec.name}` | {accepts} | `{_default(spec)}` | {spec.metadata['doc']} |"


def _default(spec: dataclasses.Field[Any]) -> str:
    value = spec.default if spec.default is not dataclasses.MISSING else {}
    if value is None:
        return "~"
    return str(list(value) if isinstance(value, tuple) else value).replace("'", "")


if __name__ == "__main__":
    print(options_page(), end="")
