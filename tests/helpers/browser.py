"""Pages in a real browser, on the width of a phone or of a desk."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_a_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")
LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"

# Functions of a script: the contrast of an element's colour with its background as WCAG 2 defines it, (L1 + .05) /
# (L2 + .05) of the relative luminances; and all elements with a text.
CONTRAST = """\
  const colour = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = (text) => {
    const [r, g, b] = colour(text).map((c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const back = (e) => {
    for (; e; e = e.parentElement) {
      const c = view.getComputedStyle(e).backgroundColor;
      if (!(colour(c)[3] === 0)) return c;
    }
  };
  const contrast = (e, name) => {
    const [a, b] = [luminance(view.getComputedStyle(e)[name]), luminance(back(e))].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
  };
  const written = [...page.querySelectorAll("body *")].filter((e) => !["title", "desc"].includes(e.localName) &&
    [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()));
"""

# A browser's window may have a least width above that of a phone, so the page lies in a frame.
_HARNESS = """<!DOCTYPE html>
<iframe id="frame" src="page.html" style="width:WIDTHpx; height:800px; border:0"></iframe>
<script>
frame.onload = () => {
  const page = frame.contentDocument, view = page.defaultView, wide = view.innerWidth;
SCRIPT
  const answer = document.createElement("pre");
  answer.id = "found";
  answer.textContent = JSON.stringify(found);
  document.body.append(answer);
};
</script>
"""


def browse(folder: Path, page: str, script: str, width: int, *flags: str) -> tuple[dict[str, Any], list[str]]:
    """What a script finds of a page, the document `page` in the window `view`, and the lines of the console."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    harness = _HARNESS.replace("WIDTH", str(width)).replace("SCRIPT", script)
    (folder / "harness.html").write_text(harness, encoding="utf-8")
    done = subprocess.run(
        [
            *(
                BROWSER or "",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-dev-shm-usage",
            ),
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
