"""An explanation as a notebook and a terminal show it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from html import escape

from recbole_llmtrsr.explain import Explanation, page, text

_HEIGHT = 640  # pixels


@dataclass(frozen=True, repr=False)
class ShownExplanation(Explanation):
    """An `Explanation` whose text is printed, and whose page a notebook shows."""

    def __repr__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        # In a frame, since the page's style sheet would apply to the whole notebook.
        style = f"width: 100%; height: {_HEIGHT}px; border: 1px solid #ccc"
        return f'<iframe srcdoc="{escape(page(self))}" style="{style}"></iframe>'


def shown_explanation(explanation: Explanation) -> ShownExplanation:
    """The same explanation, as it is shown."""
    return ShownExplanation(**{field.name: getattr(explanation, field.name) for field in fields(explanation)})
