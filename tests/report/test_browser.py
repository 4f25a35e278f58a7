"""The report in a real browser, on a phone's width and on a desk's."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from recbole_llmtrsr.report.page import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")
LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"

# A browser's window may have a least width above that of a phone, so the page lies in a frame. Contrast is that of
# WCAG 2: (L1 + .05) / (L2 + .05) of the relative luminances. What lies in a table that
# scrolls, or in a picture that clips, widens nothing.
HARNESS = """<!DOCTYPE html>
<iframe id="frame" src="page.html" style="width:{width}px; height:800px; border:0"></iframe>
<script>
frame.onload = () => {{
  const page = frame.contentDocument, view = page.defaultView, wide = view.innerWidth;
  page.querySelectorAll("details").forEach((e) => e.open = true);
  const colour = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = (text) => {{
    const [r, g, b] = colour(text).map((c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  }};
  const back = (e) => {{
    for (; e; e = e.parentElement) {{
      const c = view.getComputedStyle(e).backgroundColor;
      if (!(colour(c)[3] === 0)) return c;
    }}
  }};
  const contrast = (e, name) => {{
    const [a, b] = [luminance(view.getComputedStyle(e)[name]), luminance(back(e))].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
  }};
  const written = [...page.querySelectorAll("body *")].filter((e) => !["title", "desc"].includes(e.localName) &&
    [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()));
  const beyond = [...page.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > wide + .5
    && !e.closest(".scroll table") && !e.ownerSVGElement);
  const tables = [...page.querySelectorAll(".scroll")];
  const found = {{
    width: wide,
    scrollWidth: page.documentElement.scrollWidth,
    beyond: beyond.map((e) => e.tagName + " " + e.className),
    pinned: tables.every((e) => {{
      e.scrollLeft = 9999;
      return [...e.querySelectorAll("tbody th[scope=row]")].every((th) =>
        Math.abs(th.getBoundingClientRect().left - e.getBoundingClientRect().left) < 2);
    }}),
    scrolled: tables.filter((e) => e.scrollLeft > 0).length,
    plots: [...page.querySelectorAll("svg.plot")].map((e) => {{
      const own = e.getBoundingClientRect();
      const outside = [...e.querySelectorAll("path, text, polyline, circle")].filter((part) => {{
        const box = part.getBoundingClientRect();
        return box.left < own.left - .5 || box.right > own.right + .5 || box.top < own.top - .5
          || box.bottom > own.bottom + .5;
      }});
      return {{ width: own.width, height: own.height, marks: e.querySelectorAll(".mark").length,
        outside: outside.map((part) => part.outerHTML) }};
    }}),
    texts: written.length,
    least: Math.min(...written.map((e) => contrast(e, e.closest("svg") ? "fill" : "color"))),
    outline: contrast(page.querySelector(".mark"), "stroke"),
    small: Math.min(...written.map((e) => e.closest("svg.plot")
      ? parseFloat(view.getComputedStyle(e).fontSize) * e.closest("svg").getBoundingClientRect().width / {canvas}
      : parseFloat(view.getComputedStyle(e).fontSize))),
    scripts: page.scripts.length,
    loaded: view.performance.getEntriesByType("resource").length,
    back: view.getComputedStyle(page.body).backgroundColor,
  }};
  const answer = document.createElement("pre");
  answer.id = "found";
  answer.textContent = JSON.stringify(found);
  document.body.append(answer);
}};
</script>
"""


def browse(folder, comparison, width, *flags):
    """What the browser finds, and what its console says."""
    (folder / "page.html").write_text(page(comparison), encoding="utf-8")
    (folder / "harness.html").write_text(HARNESS.format(width=width, canvas=360), encoding="utf-8")
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
            *("--enable-logging=stderr", "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"),
            *(*flags, "--virtual-time-budget=5000", "--dump-dom", (folder / "harness.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    answer = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert answer, done.stderr
    return json.loads(html.unescape(answer[1])), re.findall(r"CONSOLE.*", done.stderr)


@pytest.mark.parametrize(("width", "colours"), [(1280, LIGHT), (1280, DARK), (390, LIGHT), (390, DARK)])
def test_the_report_can_be_read(comparison, tmp_path, width, colours):
    found, console = browse(tmp_path, comparison, width, colours)
    assert (found["width"], found["beyond"]) == (width, [])
    assert found["scrollWidth"] <= width
    assert (found["scripts"], found["loaded"], console) == (0, 0, [])
    assert found["texts"] > 200
    assert found["least"] >= 4.5  # text, level AA
    assert found["outline"] >= 3  # graphical objects
    assert found["small"] >= 9.5
    assert found["back"] == ("rgb(246, 247, 249)" if colours is LIGHT else "rgb(16, 20, 26)")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_every_plot_is_seen_whole(comparison, tmp_path, width):
    found, _ = browse(tmp_path, comparison, width)
    assert len(found["plots"]) == 6
    for plot in found["plots"]:
        assert plot["width"] > 220
        assert plot["height"] > 180
        assert plot["marks"] > 1
        assert plot["outside"] == []


def test_wide_tables_scroll_by_themselves_and_keep_their_names_in_sight(comparison, tmp_path):
    many = [f"metric{n}@10" for n in range(30)]
    rows = tuple(
        replace(row, metrics={**row.metrics, **dict.fromkeys(many, row.metrics["recall@1"])}) for row in comparison.rows
    )
    for width in (390, 1280):
        found, _ = browse(tmp_path, replace(comparison, rows=rows), width)
        assert found["scrolled"] >= 1
        assert found["pinned"]
        assert found["scrollWidth"] <= width
        assert found["beyond"] == []


def test_long_names_stay_within_the_screen_and_run_no_code(comparison, renamed, tmp_path):
    long = "<script>console.error('ran')</script>" + "Donaudampfschifffahrtsgesellschaft" * 9 + "\u6599" * 99
    found, console = browse(tmp_path, renamed(comparison, long), 390)
    assert found["scrollWidth"] <= 390
    assert found["beyond"] == []
    assert (found["scripts"], console) == (0, [])
