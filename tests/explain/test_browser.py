"""The page in a real browser, in widths from a phone's to a desk's."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from browser import CONTRAST, DARK, LIGHT, browse, needs_a_browser

from recbole_llmtrsr.explain.explanation import ExplainedItem
from recbole_llmtrsr.explain.page import page
from recbole_llmtrsr.explain.ranking import ExplainedCandidate

pytestmark = needs_a_browser

SCRIPT = """\
  const box = (selector) => {
    const element = page.querySelector(selector), area = element.getBoundingClientRect();
    return { text: element.innerText, visible: element.checkVisibility() && area.width > 0 && area.height > 0 };
  };
  const beyond = [...page.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > wide + 0.5);
  const found = {
    width: wide,
    scrollWidth: page.documentElement.scrollWidth,
    beyond: beyond.map((e) => e.tagName + " " + e.className),
    target: box("#target"),
    summary: box("#preference-summary"),
    row: box("tr.target"),
    scripts: page.scripts.length,
    back: view.getComputedStyle(page.body).backgroundColor,
    ink: view.getComputedStyle(page.body).color,
  };"""


@pytest.fixture
def wide(make_explanation):
    """Words, ids and tokens that are longer than any line."""
    made = make_explanation()
    long = "Donaudampfschifffahrtsgesellschaft" * 20
    item = ExplainedItem(
        long,
        f"{long} <script>console.error('ran')</script> \u05db\u05d5\u05ea\u05e8\u05ea \u6599\u7406" + "\u7406" * 99,
    )
    return replace(
        made,
        user=long,
        dataset=long,
        target=item,
        history=(item,) * 7,
        calls=tuple(replace(call, text=long, faults=(long,)) for call in made.calls),
        summary=long,
        sections=tuple(replace(section, text=long, note=long) for section in made.sections),
        candidates=(ExplainedCandidate(long, item.line, 1.5, True, 9, long), *made.candidates[:1]),
        options=((long[:40], long),),
    )


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_the_screen(wide, tmp_path, width):
    found, console = browse(tmp_path, page(wide), SCRIPT, width)
    assert found["width"] == width
    assert found["scrollWidth"] <= width
    assert found["beyond"] == []
    assert (found["scripts"], console) == (0, [])


@pytest.mark.parametrize("width", [320, 360, 1200])
def test_target_and_summary_are_seen(make_explanation, tmp_path, width):
    found, console = browse(tmp_path, page(make_explanation()), SCRIPT, width)
    assert found["scrollWidth"] <= width
    assert found["target"] == {"text": "Oak chair i9", "visible": True}
    assert found["summary"] == {
        "text": "Kettles, la cut heremps.\n\nThe model did not read the grey part.",
        "visible": True,
    }
    assert found["row"]["visible"]
    assert re.sub(r"\s+", " ", found["row"]["text"]) == "2.5 = target Oak chair i9 0.5000 +0.000"
    assert console == []


LEAST_CONTRAST = """
  found.least = Math.min(...written.map((e) => contrast(e, "color")));"""
UNFOLDING = """\
  const item = page.querySelector("#target .clamp"), low = item.clientHeight, whole = item.scrollHeight;
  item.click();
  const found = { low, whole, unfolded: item.clientHeight, text: item.textContent,
    bars: [...page.querySelectorAll(".bar span")].map((e) =>
      Math.round(100 * e.getBoundingClientRect().width / e.parentElement.getBoundingClientRect().width)) };"""


def test_a_long_item_takes_few_lines_until_it_is_clicked(make_explanation, tmp_path):
    long = " ".join(f"word{n}" for n in range(200))
    made = make_explanation(target=ExplainedItem("i9", long))
    found, _ = browse(tmp_path, page(made), UNFOLDING, 768)
    assert found["low"] * 5 < found["whole"] == found["unfolded"]
    assert found["text"] == long
    assert found["bars"] == [100, 0, 0]


def test_the_page_follows_the_colours_of_the_system(make_explanation, tmp_path):
    made, script = page(make_explanation()), CONTRAST + SCRIPT + LEAST_CONTRAST
    light, dark = (browse(tmp_path, made, script, 390, colours)[0] for colours in (LIGHT, DARK))
    assert (light["back"], light["ink"]) == ("rgb(246, 247, 249)", "rgb(27, 31, 36)")
    assert (dark["back"], dark["ink"]) == ("rgb(16, 20, 26)", "rgb(232, 236, 241)")
    assert min(light["least"], dark["least"]) >= 4.5  # text, level AA
