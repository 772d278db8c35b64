"""The page in a real browser, where there is one."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.browser import Page, chromium
from tests.support.hostile_texts import TEXTS
from tests.viewer.hostile import hostile_run, token_count
from tests.viewer.sample_run import sample_run

pytestmark = [
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium on PATH"),
    pytest.mark.asyncio(loop_scope="module"),
]

TOKENS = "document.querySelectorAll('.tokens[data-start] > i').length"
SHOWN = "[...document.querySelectorAll('.question')].filter(q => q.offsetParent).map(q => q.dataset.change)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    async with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


async def test_hostile_texts_run_nothing(browser: Page, hostile_page: Path) -> None:
    await browser.open(hostile_page)
    # The browser trims and joins blanks in a title.
    assert (await browser.evaluate("document.title")).startswith(TEXTS[0])
    assert await browser.evaluate(TOKENS) == token_count(hostile_run(sample_run()))
    assert await browser.evaluate("document.scripts.length") == 1
    await browser.point_at("#q1 .tokens.model[data-start] > i:last-child")
    assert await browser.evaluate("document.getElementById('tip').firstChild.textContent") == f'"{TEXTS[-1]}"'
    assert browser.console == []


@pytest.fixture
def forged_page(page: Path, tmp_path: Path) -> Path:
    """A page with a script that escaping would have had to catch."""
    path = tmp_path / "forged.html"
    path.write_text(page.read_text().replace("</main>", "<script>document.title = 'owned'</script></main>"))
    return path


async def test_the_policy_stops_a_foreign_script(browser: Page, forged_page: Path) -> None:
    await browser.open(forged_page)
    assert await browser.evaluate("document.title") == "A run"
    assert any("Content Security Policy" in entry for entry in browser.console)


async def test_a_person_can_read_walk_and_filter(browser: Page, page: Path) -> None:
    run = sample_run()
    await browser.open(page)

    await browser.point_at("#q1 .tokens.model[data-start] > i:nth-child(3)")
    prompt, model = run.trajectories[0]["runs"][0]["segments"][:2]
    lines = "[...document.getElementById('tip').children].map(line => line.textContent)"
    piece, probability, place = await browser.evaluate(lines)
    assert piece == f'"{model["tokens"][2]}"'
    assert f"log p {model['log_probs'][2]:.3g}" in probability
    assert place == f"token {len(prompt['tokens']) + 2}, model, trained"

    await browser.press("Escape")
    assert await browser.evaluate("document.getElementById('tip').hidden")
    await browser.evaluate("document.querySelector('#q1 .tokens.model[data-start]').focus()")
    await browser.press("ArrowRight")
    await browser.press("ArrowRight")
    assert not await browser.evaluate("document.getElementById('tip').hidden")
    assert (await browser.evaluate(lines))[0] == f'"{model["tokens"][1]}"'

    await browser.evaluate("document.getElementById('show-same').click()")
    assert set(await browser.evaluate(SHOWN)) == {"same"}
    same = await browser.evaluate("[...document.querySelectorAll('[data-change=same]')].map(question => question.id)")
    for key, wanted in (("j", same[0]), ("j", same[1]), ("k", same[0]), ("k", same[0])):
        await browser.press(key)
        assert await browser.evaluate("document.activeElement.id") == wanted

    await browser.evaluate("document.querySelector('.scores a[href=\"#q1\"]').click()")
    assert len(await browser.evaluate(SHOWN)) == 16
    assert await browser.evaluate("document.activeElement.id") == "q1"
    assert browser.console == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_sticks_out_and_the_curve_is_drawn(
    browser: Page, hostile_page: Path, width: int, scheme: str
) -> None:
    await browser.open(hostile_page, width=width, scheme=scheme)
    assert await browser.evaluate("document.documentElement.scrollWidth") == width
    assert await browser.evaluate("document.querySelector('.curve img').naturalHeight") > 0
