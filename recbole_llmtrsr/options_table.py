"""The README's table of options, made from Settings: python -m recbole_llmtrsr.options_table"""

from __future__ import annotations

import dataclasses
from typing import Any

from recbole_llmtrsr.settings import all_options, choice_names, type_name


def options_table() -> str:
    """Every option with type, default and meaning, as Markdown."""
    lines = ["| option | accepts | default | meaning |", "|---|---|---|---|"]
    for _, spec, kind in all_options():
        accepts = " \\| ".join(choice_names(spec, kind)) or type_name(kind)
        if spec.metadata["minimum"] is not None:
            accepts += f" >= {spec.metadata['minimum']}"
        lines.append(f"| `{spec.name}` | {accepts} | `{_default(spec)}` | {spec.metadata['doc']} |")
    return "\n".join(lines) + "\n"


def _default(spec: dataclasses.Field[Any]) -> str:
    value = spec.default if spec.default is not dataclasses.MISSING else {}
    if value is None:
        return "~"
    return str(list(value) if isinstance(value, tuple) else value).replace("'", "")


if __name__ == "__main__":
    print(options_table(), end="")
