"""MkDocs hook: Markdown files outside of docs/ become pages, and their links lead to pages."""

import re
from pathlib import Path
from posixpath import join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#]*)(#[^)]*)?\)")


def sources() -> dict[str, str]:
    """Address in the site by path in the repository."""
    results = {f"results/{path.name}": f"results/{path.name}" for path in (ROOT / "results").glob("*.md")}
    return {
        "CHANGELOG.md": "changelog.md",
        "CONTRIBUTING.md": "contributing.md",
        **results,
        "results/README.md": "results/index.md",
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
