"""An explanation as one self-contained HTML page."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.explain.explanation import Explanation, facts
from recbole_llmtrsr.explain.ranking import best, unread
from recbole_llmtrsr.runtime.atomic_write import atomic_write

N_SHOWN = 200  # candidates; full ranking has thousands
_N_OPEN_BLOCKS = 4


def page(explanation: Explanation) -> str:
    """The page, without script and with all texts escaped; long ones are clamped, and a click unfolds them."""
    ranked = best(explanation.ranking, N_SHOWN)
    return _template().render(
        e=explanation,
        facts=facts,
        unread=unread,
        ranked=ranked,
        n_hidden=len(explanation.ranking) - len(ranked),
        n_open=_N_OPEN_BLOCKS,
        has_ties=any(r.n_equal > 1 for r in ranked),
    )


def page_name(user: str) -> str:
    """File name of a user's page, for any id.

    >>> page_name("7"), page_name("../a b")
    ('explain-7.html', 'explain-..%2Fa%20b.html')
    """
    return f"explain-{quote(user, safe='')[:100]}.html"


def write_page(path: Path, explanation: Explanation) -> None:
    """Write the page atomically.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with atomic_write(path) as file:
            file.write(page(explanation).encode())
    except OSError as error:
        raise UserError(
            f"explain: {path} cannot be written ({error.strerror or error}): set result_dir to a writable folder with"
            " room in it"
        ) from error


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
