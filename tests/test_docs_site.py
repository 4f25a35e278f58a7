"""The built site: code blocks are code blocks, links lead somewhere, and every public name has an entry."""

from __future__ import annotations

import html
import importlib.util
import re
from pathlib import Path
from posixpath import dirname, join, normpath
from types import ModuleType

import pytest

import recbole_llmtrsr

pytest.importorskip("material", reason="the extra docs is not installed")
pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^ *```(\w*)(.*)$", flags=re.MULTILINE)
REQUESTS = re.compile(
    r"<(?:script|img|iframe)[^>]* src=\"?(?:https?:)?//|<link[^>]* rel=\"?(?:stylesheet|preconnect)[^>]*//"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every page of a strict build, which refuses pages outside of the navigation: HTML by its path in the site."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    config.plugins.on_shutdown()
    pages = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    pages.update(
        {path.relative_to(folder).as_posix(): "" for path in folder.rglob("*") if path.suffix in (".svg", ".png")}
    )
    del pages["404.html"]
    return pages


def _hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_hooks", ROOT / "docs" / "_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _address(page: str) -> str:
    """Path in the site of a Markdown file in docs/."""
    return page.removesuffix("index.md") + "index.html" if page.endswith("index.md") else f"{page[:-3]}/index.html"


@pytest.fixture(scope="module")
def sources(site: dict[str, str]) -> dict[str, str]:
    """Markdown by the path of its page."""
    written = {path.relative_to(ROOT / "docs").as_posix(): path.read_text() for path in (ROOT / "docs").rglob("*.md")}
    hooks = _hooks()
    added = {address: hooks.page_text(source) for source, address in hooks.sources().items()}
    return {_address(name): text for name, text in {**written, **added}.items()}


def test_every_markdown_file_is_a_page(site, sources):
    assert set(sources) == {path for path in site if path.endswith(".html")}


def test_every_fence_is_a_code_block(site, sources):
    assert sum(len(FENCE.findall(text)) for text in sources.values()) > 100
    for path, text in sources.items():
        fences = FENCE.findall(text)[::2]
        content = re.sub(r"<div class=\"doc-signature.*?</div>", "", site[path], flags=re.DOTALL)
        if not path.startswith("api/"):
            assert len(re.findall(r"<div class=\"(?:language-\w+ )?highlight\">", content)) == len(fences), path
        titles = [title for _, rest in fences for title in re.findall(r"title=\"(.+?)\"", rest)]
        assert re.findall(r"<span class=\"filename\">(.+?)</span>", content) == titles, path
        assert "```" not in content, path


def _ids(page: str) -> set[str]:
    return {html.unescape(one) for one in re.findall(r"\sid=\"?([^\s\">]+)", page)}


def test_every_link_leads_to_a_page_and_to_an_anchor_in_it(site):
    ids = {path: _ids(page) for path, page in site.items()}
    n_links = 0
    for path, page in site.items():
        for given in re.findall(r"<(?:a|img)\s[^>]*?(?:href|src)=\"?([^\s\">]+)", page):
            target, _, anchor = html.unescape(given).partition("#")
            if re.match(r"https?:|mailto:", target):
                continue
            found = normpath(join(dirname(path), target)) if target else path
            if not found.endswith((".html", ".svg", ".png")):
                found = normpath(join(found, "index.html"))
            assert found in site, f"{path} leads to {given}"
            assert not anchor or anchor in {*ids[found], "__toc", "__search", "__drawer"}, f"{path} leads to {given}"
            n_links += 1
    assert n_links > 1000


def test_every_link_of_the_readme_leads_to_a_file_and_to_an_anchor_in_its_page(site):
    from markdown.extensions.toc import slugify

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = {slugify(title, "-") for title in re.findall(r"^#+ (.+)$", readme, flags=re.MULTILINE)}
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\((?!https?:)([^)\s]+)", readme)):
        assert not target or (ROOT / target).exists(), target
        if anchor and target:
            page = _hooks().sources().get(target, target.removeprefix("docs/"))
            assert anchor in _ids(site[_address(page)]), f"{target}#{anchor}"
        elif anchor:
            assert anchor in headings, anchor


def test_pages_load_nothing_from_other_hosts(site):
    assert [path for path, page in site.items() if REQUESTS.search(page)] == []


def test_every_public_name_has_an_entry(site):
    entries = set().union(*(_ids(page) for path, page in site.items() if path.startswith("api/")))
    public = {name: getattr(recbole_llmtrsr, name) for name in recbole_llmtrsr.__all__ if name != "__version__"}
    assert [name for name, value in public.items() if f"{value.__module__}.{value.__qualname__}" not in entries] == []
