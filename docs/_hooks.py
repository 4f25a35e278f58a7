"""MkDocs hooks: Markdown files outside of docs/ become pages, and code breaks at the right places.

A flag never breaks at its hyphens; in tables, a long name breaks behind an underscore.
"""

import re
from pathlib import Path
from posixpath import join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#]*)(#[^)]*)?\)")

CODE = re.compile(r"<code[^>]*>.*?</code>", flags=re.DOTALL)
CELL = re.compile(r"<td[^>]*>.*?</td>", flags=re.DOTALL)
UNDERSCORE = re.compile(r"_(?=[^<>]*<)")  # not in tags
FLAG = re.compile(r"(?<![\w-])--[\w.@-]+")


def sources() -> dict[str, str]:
    """Address in the site by path in the repository."""
    results = {f"results/{path.name}": f"results/{path.name}" for path in (ROOT / "results").glob("*.md")}
    return {
        "CHANGELOG.md": "changelog.md",
        "CONTRIBUTING.md": "contributing.md",
        **results,
        "results/README.md": "results/single_runs.md",
    }


def page_text(source: str) -> str:
    """The text of a file, with links to other pages; a link to what is no page becomes its text."""
    pages = sources()

    def linked(match: re.Match[str]) -> str:
        text, target, anchor = match[1], normpath(join(source, "..", match[2])), match[3] or ""
        page = pages.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        return f"[{text}]({relpath(page, join(pages[source], '..'))}{anchor})" if page else text

    return LINK.sub(linked, (ROOT / source).read_text(encoding="utf-8"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for source, address in sources().items():
        files.append(File.generated(config, address, content=page_text(source)))
    return files


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep the hyphens of a flag together with its name, and let long names in tables break behind underscores."""
    html = CODE.sub(lambda code: FLAG.sub(r'<span class="flag">\g<0></span>', code[0]), html)
    return CELL.sub(lambda cell: CODE.sub(lambda code: UNDERSCORE.sub("_<wbr>", code[0]), cell[0]), html)
