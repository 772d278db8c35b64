"""The pages in a real browser, where there is one: load, filter, open, walk, export, and hostile texts."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from slime_search.records.rollout import displayable
from slime_search.viewer.export import export
from slime_search.viewer.library import Library
from slime_search.viewer.selection import Selection
from tests.support.browser import Page, chromium
from tests.support.hostile_texts import TEXTS
from tests.viewer.viewing import opened, rollout, serving, write

pytestmark = [
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium on PATH"),
    pytest.mark.asyncio(loop_scope="module"),
]

WHERE = "location.pathname + location.search"
FOUND = "document.getElementById('found').textContent"
FOCUSED = "document.activeElement.textContent"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    async with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


async def choose(browser: Page, name: str, value: str) -> None:
    browser.leave()
    await browser.evaluate(
        f"(f => {{ f.value = {value!r}; f.dispatchEvent(new Event('change', {{bubbles: true}})) }})"
        f"(document.querySelector('[name={name}]'))"
    )
    await browser.loaded()


async def test_a_person_filters_opens_and_walks_with_the_keyboard(browser: Page, url: str) -> None:
    await browser.open(url)
    assert await browser.evaluate(FOUND) == "141"
    await browser.press("/")
    assert await browser.evaluate("document.activeElement.id") == "search"
    await browser.call("Input.insertText", text="thing-1")
    await browser.go("Enter")
    assert await browser.evaluate(WHERE) == "/?text=thing-1"
    assert await browser.evaluate(FOUND) == "22"
    await choose(browser, "checkpoint", "before")
    await choose(browser, "result", "wrong")
    assert await browser.evaluate(FOUND) == "5"

    for key, question in (("j", 10), ("j", 12), ("ArrowDown", 14), ("k", 12), ("ArrowUp", 10), ("j", 12)):
        await browser.press(key)
        assert await browser.evaluate(FOCUSED) == f"Who made thing-{question}?"
    await browser.go("Enter")
    query = "?text=thing-1&result=wrong&checkpoint=before"
    assert await browser.evaluate(WHERE) == f"/rollouts/12{query}"
    await browser.go("ArrowRight")
    assert await browser.evaluate(WHERE) == f"/rollouts/14{query}"
    await browser.go("ArrowLeft")

    await browser.press("j")
    await browser.press("ArrowRight")
    lines = "[...document.getElementById('tip').children].map(line => line.textContent)"
    assert await browser.evaluate(lines) == ['"<search>"', "p 99.0%, log p -0.01", "token 4, model, trained"]
    await browser.press("Escape")
    assert await browser.evaluate("document.getElementById('tip').hidden")
    await browser.press("?")
    assert await browser.evaluate("document.getElementById('help').open")
    await browser.press("Escape")
    assert not await browser.evaluate("document.getElementById('help').open")
    await browser.go("Escape")
    assert await browser.evaluate(WHERE) == f"/{query}"
    assert browser.console == []


async def test_the_walk_through_a_long_turn_stays_in_sight(browser: Page, tmp_path: Path) -> None:
    segment = {"owner": "model", "trained": True, "tokens": ["word "] * 1000, "log_probs": [-0.5] * 1000}
    run = {"ending": "answered", "answer": None, "segments": [segment]}
    library = opened(write(tmp_path / "r.jsonl", [rollout(runs=[run])]), spool=tmp_path)
    box = "document.querySelector('.held').getBoundingClientRect()"
    seen = f"{box}.top >= 0 && {box}.bottom < innerHeight + 1"
    place = "document.getElementById('tip').lastChild.textContent"
    with serving(library) as url:
        await browser.open(f"{url}/rollouts/0", width=390, height=400)
        await browser.press("j")
        for key, number in (("ArrowRight", 0), ("ArrowRight", 1), ("ArrowLeft", 0)):
            await browser.press(key)
            await browser.settle()
            assert (await browser.evaluate(place)).startswith(f"token {number},")
            assert await browser.evaluate(seen)
        await browser.press("Escape")
        for number in (999, 998):
            await browser.press("ArrowLeft")
            await browser.settle()
            assert (await browser.evaluate(place)).startswith(f"token {number},")
            assert await browser.evaluate(seen)


async def test_two_checkpoints_stand_side_by_side(browser: Page, url: str) -> None:
    await browser.open(f"{url}/compare?change=improved")
    await browser.press("j")
    await browser.go("Enter")
    assert await browser.evaluate(WHERE) == "/compare/0/70?change=improved"
    sides = "[...document.querySelectorAll('.trajectory')]"
    told = "one => [one.querySelector('h4').textContent, one.getBoundingClientRect().x]"
    left, right = await browser.evaluate(f"{sides}.map({told})")
    assert (left[0], right[0]) == ("before", "after")
    assert left[1] < right[1]
    await browser.go("Escape")
    assert await browser.evaluate(WHERE) == "/compare?left=before&right=after&change=improved"


async def test_executors_stand_beside_their_planner(browser: Page, url: str) -> None:
    await browser.open(f"{url}/rollouts/140")
    boxes = "[...document.querySelectorAll('.run')].map(run => run.getBoundingClientRect()).map(box => [box.x, box.y])"
    planner, first, second = await browser.evaluate(boxes)
    assert planner[0] < first[0] == second[0]
    assert planner[1] == first[1] < second[1]
    await browser.open(f"{url}/rollouts/140", width=390)
    xs = [box[0] for box in await browser.evaluate(boxes)]
    assert len(set(xs)) == 1


async def test_an_export_needs_no_server(browser: Page, library: Library, tmp_path: Path) -> None:
    path = tmp_path / "wrong.html"
    path.write_text(export(library, Selection(result="wrong"), limit=20))
    await browser.open(path)
    assert await browser.evaluate("document.querySelectorAll('.question').length") == 20
    assert "20 rollouts" in await browser.evaluate("document.querySelector('.sum').textContent")
    await browser.press("j")
    await browser.press("j")
    assert await browser.evaluate("document.activeElement.id") == "q2"
    await browser.point_at("#q2 .tokens.model[data-start] > i:nth-child(2)")
    assert await browser.evaluate("document.getElementById('tip').firstChild.textContent") == '"thing-2"'
    assert await browser.evaluate("performance.getEntriesByType('resource').length") == 0
    assert browser.console == []


@pytest.mark.parametrize("number", range(len(TEXTS)))
async def test_hostile_texts_run_nothing(browser: Page, hostile: Library, number: int, tmp_path: Path) -> None:
    text = displayable(TEXTS[number])
    path = tmp_path / "export.html"
    path.write_text(export(hostile, Selection(), limit=99))
    with serving(hostile) as url:
        for page in (f"{url}/rollouts/{number}", url, path):
            await browser.open(page)
            assert await browser.evaluate("document.title") != "owned"
            assert await browser.evaluate("document.scripts.length") == 1
            assert browser.console == []
        await browser.open(f"{url}/rollouts/{number}")
        tokens = await browser.evaluate(
            "[...document.querySelectorAll('.tokens[data-start] > i')].map(i => i.textContent)"
        )
        assert tokens == [text] * 8


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_sticks_out(browser: Page, hostile: Library, width: int, scheme: str) -> None:
    with serving(hostile) as url:
        for path in ("/", "/rollouts/0", "/compare", "/compare/0/3", "/elsewhere"):
            await browser.open(url + path, width=width, scheme=scheme)
            assert await browser.evaluate("document.documentElement.scrollWidth") == width


async def test_rows_of_a_list_are_aligned_on_a_phone(browser: Page, url: str) -> None:
    await browser.open(f"{url}/compare", width=390)
    xs = "[...new Set([...document.querySelectorAll('.asked')].map(asked => asked.getBoundingClientRect().x))]"
    assert len(await browser.evaluate(xs)) == 1


async def test_the_curves_are_drawn(browser: Page, url: str) -> None:
    await browser.open(f"{url}/curves")
    assert await browser.evaluate("document.querySelector('.curves img').naturalHeight") > 0
    assert browser.console == []
    # Their labels are legible on a phone, where one scrolls through the panels and not the page.
    await browser.open(f"{url}/curves", width=390)
    assert await browser.evaluate("document.querySelector('.curves img').clientWidth") > 700
    assert await browser.evaluate("document.documentElement.scrollWidth") == 390
