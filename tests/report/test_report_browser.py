# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: it opens, sorts, searches, tells values, plays, and complains of
nothing. ``.ci/run`` sees to it that there is a browser; elsewhere the test is left out without one.
"""

import os

import pytest
from browser import Browser, find_browser


@pytest.fixture(scope="module")
def browser(page_path, tmp_path_factory):
    program = find_browser()
    if program is None:
        how = "no browser: apt-get install chromium, or BROWSER_BIN=/path/to/chrome"
        (pytest.fail if os.environ.get("ESPNET_EXT_BROWSER") == "required" else pytest.skip)(how)
    with Browser(program, tmp_path_factory.mktemp("profile")) as opened:
        opened.open(page_path)
        yield opened


def column(browser, table, cell):
    rows = f"[...document.querySelectorAll('{table}')][0].tBodies[0].rows"
    return browser.js(f"[...{rows}].map(r => r.cells[{cell}].textContent.trim())")


def test_a_table_is_sorted_by_its_head(browser):
    head = "document.querySelector('table.runs thead th:nth-child(4) button')"
    found = []
    for order in ("ascending", "descending"):
        browser.js(f"{head}.click()")
        assert browser.js(f"{head}.parentNode.getAttribute('aria-sort')") == order
        values = column(browser, "table.runs", 3)
        found.append([float(v) for v in values])
    assert found[0] == sorted(found[0]) and found[1] == found[0][::-1] != found[0]


def test_utterances_are_ordered_and_found(browser):
    names = (
        "[...document.querySelectorAll('.card')].filter(c => !c.hidden).map(c => c.dataset.name)"
    )
    assert browser.js(names) == ["u2", "u1", "u4"]
    choose = "order.value = '{}'; order.dispatchEvent(new Event('change'))"
    browser.js(choose.format("confidence"))
    assert browser.js(names)[0] == "u1"  # the only one that an alignment tells of
    browser.js(choose.format("name"))
    assert browser.js(names) == ["u1", "u2", "u4"]
    find = "(f => {{ f.value = '{}'; f.dispatchEvent(new Event('input')) }})"
    find += "(document.getElementById('find'))"
    browser.js(find.format("<SCRIPT>"))
    assert browser.js(names) == ["u2"]
    browser.js(find.format(""))


def test_curves_tell_their_values_to_mouse_and_keys(browser):
    browser.js("document.querySelector('.chart svg').scrollIntoView({block: 'center'})")
    box = browser.js("(b => [b.left, b.top, b.width, b.height])"
                     "(document.querySelector('.chart svg').getBoundingClientRect())")  # fmt: skip
    browser.mouse(box[0] + 0.69 * box[2], box[1] + box[3] / 2)  # two thirds of the epochs
    told = "document.querySelector('.readout').textContent"
    browser.until(f"{told}.includes('20 updates')")
    browser.js("document.querySelector('.chart svg').focus()")
    browser.key("ArrowRight")
    browser.until(f"{told}.includes('epoch 3, 30 updates')")
    hide = "document.querySelector('.legend button').click()"
    lines = "document.querySelectorAll('.chart .line[hidden]').length"
    browser.js(hide)
    assert browser.js(lines) > 0
    browser.js(hide)
    assert browser.js(lines) == 0


def test_every_sound_and_picture_can_be_decoded_and_a_word_plays(browser):
    ready = "[...document.querySelectorAll('audio')].map(a => a.readyState > 0 && a.duration)"
    browser.until(f"{ready}.every(Boolean)")
    assert browser.js(ready) == pytest.approx([2.0] * 3, abs=0.05)
    assert browser.js(
        "Promise.all([...document.querySelectorAll('svg.view image')].map(i => {"
        " const p = new Image(); p.src = i.getAttribute('href'); return p.decode(); }))"
        ".then(all => all.length)"
    ) == 3  # fmt: skip
    browser.js("document.querySelector('.word').focus()")
    browser.key("Enter")
    audio = "document.querySelector('.word').closest('.card').querySelector('audio')"
    # It stops after the word; a busy machine may stop it late, but the sound is longer.
    browser.until(f"{audio}.paused && {audio}.currentTime >= 0.3")
    assert browser.js(f"{audio}.currentTime") < browser.js(f"{audio}.duration")


def test_nothing_of_a_transcript_is_run_and_nothing_is_asked_for(browser, page_path):
    assert browser.js("document.querySelectorAll('script').length") == 1
    assert browser.js("document.querySelectorAll('main img').length") == 0
    assert browser.js("document.documentElement.scrollWidth <= innerWidth")
    browser.call("Emulation.setDeviceMetricsOverride", width=390, height=800,
                 deviceScaleFactor=1, mobile=True)  # fmt: skip
    browser.until("innerWidth == 390 && document.documentElement.scrollWidth <= 390")
    assert browser.errors == []
    assert browser.requests == [page_path.as_uri()]
