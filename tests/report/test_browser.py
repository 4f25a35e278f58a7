"""The report in a real browser, in widths from a phone's to a desk's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from browser import CONTRAST, DARK, LIGHT, browse, needs_a_browser

from recbole_llmtrsr.report.page import page

pytestmark = needs_a_browser

# What lies in a table that scrolls, or in a picture that clips, widens nothing.
SCRIPT = """\
  page.querySelectorAll("details").forEach((e) => e.open = true);
  const beyond = [...page.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > wide + .5
    && !e.closest(".scroll table") && !e.ownerSVGElement);
  const tables = [...page.querySelectorAll(".scroll")];
  const found = {
    width: wide,
    scrollWidth: page.documentElement.scrollWidth,
    beyond: beyond.map((e) => e.tagName + " " + e.className),
    pinned: tables.every((e) => {
      e.scrollLeft = 9999;
      return [...e.querySelectorAll("tbody th[scope=row]")].every((th) =>
        Math.abs(th.getBoundingClientRect().left - e.getBoundingClientRect().left) < 2);
    }),
    scrolled: tables.filter((e) => e.scrollLeft > 0).length,
    plots: [...page.querySelectorAll("svg.plot")].map((e) => {
      const own = e.getBoundingClientRect();
      const outside = [...e.querySelectorAll("path, text, polyline, circle")].filter((part) => {
        const box = part.getBoundingClientRect();
        return box.left < own.left - .5 || box.right > own.right + .5 || box.top < own.top - .5
          || box.bottom > own.bottom + .5;
      });
      return { width: own.width, height: own.height, marks: e.querySelectorAll(".mark").length,
        outside: outside.map((part) => part.outerHTML) };
    }),
    texts: written.length,
    least: Math.min(...written.map((e) => contrast(e, e.closest("svg") ? "fill" : "color"))),
    outline: contrast(page.querySelector(".mark"), "stroke"),
    legend: page.querySelector(".legend").scrollHeight <= page.querySelector(".legend").clientHeight,
    first: (() => {
      const table = page.querySelector("table"), [, primary] = table.querySelectorAll("thead th");
      table.parentElement.scrollLeft = 0;
      const box = primary.getBoundingClientRect(), frame = table.parentElement.getBoundingClientRect();
      return primary.innerText + (box.left >= frame.left && box.right <= frame.right ? " in sight" : " hidden");
    })(),
    small: Math.min(...written.map((e) => e.closest("svg.plot")
      ? parseFloat(view.getComputedStyle(e).fontSize) * e.closest("svg").getBoundingClientRect().width / 360
      : parseFloat(view.getComputedStyle(e).fontSize))),
    scripts: page.scripts.length,
    loaded: view.performance.getEntriesByType("resource").length,
    back: view.getComputedStyle(page.body).backgroundColor,
  };"""


@pytest.mark.parametrize(("width", "colours"), [(1280, LIGHT), (1280, DARK), (768, LIGHT), (390, DARK), (360, LIGHT)])
def test_the_report_can_be_read(comparison, tmp_path, width, colours):
    found, console = browse(tmp_path, page(comparison), CONTRAST + SCRIPT, width, colours)
    assert (found["width"], found["beyond"]) == (width, [])
    assert found["scrollWidth"] <= width
    assert (found["scripts"], found["loaded"], console) == (0, 0, [])
    assert found["texts"] > 200
    assert (found["first"], found["legend"]) == ("mrr@2 in sight", True)
    assert found["least"] >= 4.5  # text, level AA
    assert found["outline"] >= 3  # graphical objects
    assert found["small"] >= 9.5
    assert found["back"] == ("rgb(246, 247, 249)" if colours is LIGHT else "rgb(16, 20, 26)")


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_every_plot_is_seen_whole(comparison, tmp_path, width):
    found, _ = browse(tmp_path, page(comparison), CONTRAST + SCRIPT, width)
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
        found, _ = browse(tmp_path, page(replace(comparison, rows=rows)), CONTRAST + SCRIPT, width)
        assert found["scrolled"] >= 1
        assert found["pinned"]
        assert found["scrollWidth"] <= width
        assert found["beyond"] == []


def test_long_names_stay_within_the_screen_and_run_no_code(comparison, renamed, tmp_path):
    long = "<script>console.error('ran')</script>" + "Donaudampfschifffahrtsgesellschaft" * 9 + "\u6599" * 99
    found, console = browse(tmp_path, page(renamed(comparison, long)), CONTRAST + SCRIPT, 390)
    assert found["scrollWidth"] <= 390
    assert found["beyond"] == []
    assert (found["scripts"], console) == (0, [])
