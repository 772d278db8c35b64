"""What the server answers, and to whom."""

import html
import http.client
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.errors import DataError
from slime_search.records.rollout import displayable
from slime_search.viewer.export import export
from slime_search.viewer.library import Library
from slime_search.viewer.selection import Selection, read_selection, select
from tests.viewer.viewing import opened, rollout, run_lines, serving, write


def get(url: str, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()}
    finally:
        connection.close()


def found(page: str) -> int:
    told = re.search(r'id="found">([\d,]+)', page)
    assert told is not None
    return int(told[1].replace(",", ""))


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 141),
        ("result=wrong", 35),
        ("result=right", 105),
        ("reward_min=0.5", 105),
        ("reward_max=0.5", 36),
        ("reward_min=&result=", 141),
        ("searches_min=1", 140),
        ("searches_min=2", 1),
        ("searches_max=0", 1),
        ("ending=failed", 1),
        ("recipe=coda", 1),
        ("source=hotpotqa", 1),
        ("checkpoint=before", 70),
        ("checkpoint=after&result=wrong", 0),
        ("text=THING-69?", 2),
        ("text=nobody+thing-4%3F", 1),
        ("text=nowhere", 0),
        ("group=7", 2),
    ],
)
def test_a_filter_shows_what_fits(url: str, query: str, count: int) -> None:
    status, page, _ = get(url, f"/?{query}")
    assert (status, found(page)) == (200, count)
    assert ("No rollout fits" in page) == (count == 0)


@given(
    st.builds(
        Selection,
        text=st.text(max_size=8),
        result=st.sampled_from(["", "right", "wrong"]),
        reward_min=st.none() | st.floats(0, 1),
        searches_max=st.none() | st.integers(0, 9),
        descending=st.booleans(),
    )
)
def test_a_selection_survives_its_address(selection: Selection) -> None:
    assert read_selection(dict(parse_qsl(selection.query(), keep_blank_values=True))) == selection


KEYS: dict[str, Callable[[Any], Any]] = {
    "reward": lambda facts: facts.reward,
    "searches": lambda facts: facts.searches,
    "tokens": lambda facts: facts.model_tokens,
    "latency": lambda facts: max(facts.latencies_s, default=0.0),
    "question": lambda facts: facts.question.casefold(),
}


@pytest.mark.parametrize("sort", KEYS)
def test_a_list_is_sorted(library: Library, sort: Any) -> None:
    values = [
        KEYS[sort](library.entries[number].facts) for number in select(library, Selection(sort=sort, descending=True))
    ]
    assert values == sorted(values, reverse=True)


def test_unknown_rewards_come_last(tmp_path: Path) -> None:
    rewards = [None, 0.5, None, 1.0]
    library = opened(write(tmp_path / "r.jsonl", [rollout(i, reward=r) for i, r in enumerate(rewards)]), spool=tmp_path)
    assert select(library, Selection(sort="reward")) == [1, 3, 0, 2]
    assert select(library, Selection(sort="reward", descending=True)) == [3, 1, 0, 2]


def test_the_pages_of_a_list_hold_all_of_it(url: str) -> None:
    pages = [get(url, f"/?page={page}")[1] for page in (1, 2, 3)]
    numbers = [int(number) for page in pages for number in re.findall(r'class="open" href="/rollouts/(\d+)"', page)]
    assert numbers == list(range(141))
    assert get(url, "/?page=99")[1] == pages[2]
    assert get(url, "/?page=-1")[1] == get(url, "/?page=x")[1] == pages[0]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/?reward_min=high", 422, "filter.reward_min: expected is a number"),
        ("/?sort=luck", 422, "filter.sort"),
        ("/?nonsense=1", 422, "filter.nonsense"),
        ("/rollouts/141", 422, "there is no 141; they go from 0 to 140"),
        ("/compare?left=nobody", 422, "is not one of before, after"),
        ("/compare?change=luck", 422, "is not one of improved, worse, same, unknown"),
        ("/elsewhere", 404, "Not Found"),
        ("/rollouts/first", 404, "Not Found"),
        ("/compare/0/last", 404, "Not Found"),
    ],
)
def test_what_is_not_there_is_told_on_a_page(url: str, path: str, status: int, message: str) -> None:
    answered, page, headers = get(url, path)
    assert answered == status
    assert message in page
    assert headers["content-type"].startswith("text/html")


def test_two_checkpoints_are_compared_by_question(url: str) -> None:
    page = get(url, "/compare")[1]
    assert "70 questions" in page
    # The seventieth was failed by a service after training.
    changes = re.findall(r">(\d+ (?:improved|worse|same|unknown))<", page)
    assert changes == ["35 improved", "0 worse", "34 same", "1 unknown"]
    assert "49.3% → 100.0%" in page
    worse = get(url, "/compare?left=after&right=before&change=worse")[1]
    assert re.findall(r'class="open" href="([^"?]+)', worse)[:2] == ["/compare/70/0", "/compare/72/2"]


def up(page: str) -> str:
    (link,) = re.findall(r'rel="up" href="([^"]+)"', page)
    return html.unescape(link)


def test_the_way_back_leads_to_the_page_that_one_came_from(url: str) -> None:
    assert up(get(url, "/rollouts/49")[1]) == "/"
    assert up(get(url, "/rollouts/50")[1]) == "/?page=2"
    # The fifty-first of those that are right.
    assert up(get(url, "/rollouts/85?result=right")[1]) == "/?result=right&page=2"
    second = get(url, "/compare?page=2")[1]
    first = html.unescape(re.findall(r'class="open" href="([^"]+)"', second)[0])
    assert first == "/compare/50/120?page=2"
    assert up(get(url, first)[1]) == "/compare?left=before&right=after&page=2"
    assert up(get(url, "/compare/0/70?change=improved")[1]) == "/compare?left=before&right=after&change=improved"


def test_what_a_service_failed_is_neither_right_nor_wrong(url: str) -> None:
    assert '<span class="reward">reward 0.00</span>' in get(url, "/rollouts/139")[1]
    assert '<span class="reward wrong">✗ reward 0.00</span>' in get(url, "/rollouts/0")[1]


def test_planner_and_executors_are_on_one_page_with_the_advantage(url: str) -> None:
    page = get(url, "/rollouts/140")[1]
    assert re.findall(r'class="role"><b><bdi>([^<]+)', page) == ["planner", "executor 0", "executor 1"]
    assert "advantage +0.500" in page
    assert 'data-advantage="+0.500"' in page


def test_every_answer_has_a_strict_policy(url: str) -> None:
    for path in ("/", "/page.js", "/elsewhere"):
        headers = get(url, path)[2]
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; style-src 'self'; script-src 'self'; "
        )
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8010", "127.0.0.1:9", "10.1.2.3", "[::1]:80"])
def test_this_machine_is_answered_by_its_names(url: str, host: str) -> None:
    assert get(url, "/", Host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[evil]", "1.2"]
)
def test_a_name_that_was_rebound_is_refused(url: str, host: str) -> None:
    status, body, _ = get(url, "/", Host=host)
    assert status == 421
    assert "thing-" not in body


def test_a_changed_file_is_told_on_a_page(tmp_path: Path) -> None:
    path = write(tmp_path / "rollouts.jsonl", [rollout(0)])
    with serving(opened(path, spool=tmp_path)) as url:
        path.write_text("{}\n")
        assert get(url, "/rollouts/0")[0] == 422
        path.unlink()
        status, page, _ = get(url, "/rollouts/0")
        assert (status, "changed since it was opened" in page) == (422, True)


def test_metrics_that_are_gone_are_told_on_a_page(tmp_path: Path) -> None:
    run_lines(tmp_path)
    with serving(opened(tmp_path, spool=tmp_path)) as url:
        (tmp_path / "metrics.jsonl").unlink()
        status, page, _ = get(url, "/curves")
        assert (status, "metrics.jsonl: No such file" in page) == (422, True)


def test_hostile_texts_stay_texts(hostile: Library) -> None:
    with serving(hostile) as url:
        for path in (
            "/",
            *(f"/rollouts/{number}" for number in range(len(hostile.entries))),
            "/compare",
            "/export.html",
        ):
            status, page, _ = get(url, path)
            assert status == 200
            assert len(re.findall(r"<script", page)) == 1
            assert not re.search(r"<(img|iframe|meta http-equiv=refresh|svg onload)", page)


def test_a_checkpoint_with_any_name_can_be_chosen(hostile: Library) -> None:
    with serving(hostile) as url:
        for name in hostile.checkpoints:
            assert found(get(url, f"/?checkpoint={quote(name)}")[1]) == 1
            assert name == displayable(name)


def test_an_export_tells_what_it_is_a_part_of(library: Library) -> None:
    def told(selection: Selection) -> str:
        line = re.search(r'class="sum">(.*?)\.\n', export(library, selection, limit=5), re.DOTALL)
        assert line is not None
        return " ".join(re.sub("<[^>]+>", "", line[1]).split())

    assert told(Selection()) == "5 rollouts of 141 in all; 75.0% of them are right"
    assert told(Selection(ending="answered")) == (
        "5 rollouts of 140 that fit the filters of 141 in all; 75.0% of those that fit are right"
    )


def test_an_export_of_nothing_is_refused(library: Library) -> None:
    with pytest.raises(DataError, match="no rollout fits the filters"):
        export(library, Selection(text="nowhere"), limit=5)
