import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slime_search.errors import DataError
from slime_search.records.rollout import displayable
from slime_search.viewer.rendering import environment
from slime_search.viewer.report import read_rollouts, write_report
from slime_search.viewer.views import view
from tests.support.hostile_texts import TEXTS
from tests.viewer.hostile import hostile_run, token_count
from tests.viewer.reading import parse, read_page
from tests.viewer.sample_run import Run, sample_run


def write(path: Path, run: Run) -> Path:
    write_report(path, summary=run.summary, metrics=run.metrics, trajectories=run.trajectories)
    return path


def test_every_token_is_on_the_page_with_its_owner(page: Path) -> None:
    wanted = [
        (segment["owner"], token)
        for trajectory in sample_run().trajectories
        for segment in trajectory["runs"][0]["segments"]
        for token in segment["tokens"]
    ]
    assert [(token.parents[-1].classes[1], token.text) for token in read_page(page).tokens()] == wanted


def test_the_headline_states_both_rates_and_their_intervals(page: Path) -> None:
    header = read_page(page).all("header")[0].text
    for text in ("23.5%", "61%", "18 – 30%", "54 – 67%", "20.5% → 65%", "1.18 M parameters", "23 min 53 s", "torch"):
        assert text in header


def test_filters_count_the_questions(page: Path) -> None:
    document = read_page(page)
    changes = [article.attributes["data-change"] for article in document.all("article")]
    labels = [" ".join(label.text.split()) for label in document.all("label")]
    counts = [f"{change} {changes.count(change)}" for change in ("improved", "worse", "same")]
    assert labels == ["all 16", *counts]
    assert "same" in changes and "improved" in changes


def test_executors_stand_beside_the_planner_that_called_them(tmp_path: Path) -> None:
    run = sample_run()
    rollout, worker = run.trajectories[0], run.trajectories[2]
    executors = [{**worker["runs"][0], "role": "executor", "answer": name} for name in ("one", "two")]
    rollout["runs"] = [*executors, {**rollout["runs"][0], "role": "planner", "advantage": 0.5}]
    page = read_page(write(tmp_path / "report.html", run))
    roles = [name for name in page.all("b") if "role" in name.parents[-1].classes]
    assert [name.text for name in roles] == ["planner", "executor 0", "executor 1"]
    assert [one.text for one in page.all("span") if "advantage" in one.classes] == ["advantage +0.500"]
    segments = [segment for one in rollout["runs"] for segment in one["segments"]]
    tokens = [token for token in page.tokens() if roles[0].parents[-3] in token.parents]
    assert len(tokens) == sum(len(segment["tokens"]) for segment in segments)


def test_where_a_model_differs_from_its_teacher(tmp_path: Path) -> None:
    run = sample_run()
    differs = [{"place": 3, "text": "<b>Kirsa", "student": -0.125, "teacher": -7.5}]
    run.trajectories[0]["runs"][0]["disagreements"] = differs
    page = read_page(write(tmp_path / "report.html", run))
    (told,) = [one for one in page.all("li") if "the teacher's" in one.text]
    assert told.text == "<b>Kirsa log p -0.12, the teacher's -7.50"


def test_gold_answers_are_marked_in_passages(page: Path) -> None:
    marks = {mark.text for mark in read_page(page).all("mark")}
    assert marks == {answer for trajectory in sample_run().trajectories for answer in trajectory["gold_answers"]}


@pytest.mark.parametrize("fixture", ["page", "hostile_page"])
def test_the_page_asks_the_network_for_nothing_and_allows_its_own_code_only(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    document = read_page(request.getfixturevalue(fixture))
    for element in document.elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on")
            assert name != "style"
            if name in {"src", "srcset", "href", "action", "data", "poster"}:
                assert value.startswith(("data:image/svg+xml;base64,", "#"))
    (policy,) = (meta.attributes["content"] for meta in document.all("meta") if "http-equiv" in meta.attributes)
    for tag in ("script", "style"):
        (element,) = document.all(tag)
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")


def test_hostile_texts_stay_texts(hostile_page: Path) -> None:
    document = read_page(hostile_page)
    assert document.all("title")[0].text == displayable("".join(TEXTS))
    assert len(document.tokens()) == token_count(hostile_run(sample_run()))
    assert {displayable(text) for text in TEXTS} <= {token.text for token in document.tokens()}
    assert document.all("h3")[0].text.endswith(TEXTS[0])
    assert displayable(TEXTS[2]) in {mark.text for mark in document.all("mark")}


@settings(max_examples=60, deadline=None)
@given(tokens=st.lists(st.text(st.characters(codec=None)), max_size=8), other=st.text(st.characters(codec=None)))
def test_any_text_comes_back_from_the_page(tokens: list[str], other: str) -> None:
    call = {
        "turn": 0,
        "tool": "search",
        "query": other,
        "passages": [{"title": other, "text": other}],
        "latency_s": 0.0,
    }
    segment = {"owner": "model", "trained": True, "tokens": tokens, "log_probs": [-1.0] * len(tokens)}
    run = {"ending": "failed", "answer": None, "segments": [segment], "calls": [call]}
    record: dict[str, Any] = {"id": "0", "group": "0", "stage": "after", "question": other, "answer": other}
    record |= {"gold_answers": [other], "reward": 0.0, "ending": "failed", "runs": [run]}
    (rollout,) = read_rollouts([record])
    parts: Any = environment().get_template("trajectory.html.j2").module
    document = parse(str(parts.rollout(view(rollout), other)))
    assert [token.text for token in document.tokens()] == [displayable(token) for token in tokens]
    assert [bdi.text for bdi in document.all("bdi")] == [other, *[displayable(other)] * 3]


def test_a_huge_passage_and_a_huge_segment_are_cut_with_a_note(tmp_path: Path) -> None:
    run = sample_run()
    (only,) = run.trajectories[0]["runs"]
    only["calls"][0]["passages"][0]["text"] = "x" * 1_000_000
    only["segments"][0]["tokens"] = ["y"] * 100_000
    path = write(tmp_path / "report.html", run)
    html = path.read_text()
    assert path.stat().st_size < 1_000_000
    assert "[1,500 of 1,000,000 characters shown]" in html
    assert "98,500 more tokens not shown" in html


def test_thirty_two_questions_fit_in_three_megabytes(tmp_path: Path) -> None:
    run = sample_run()
    twice = [*run.trajectories, *({**t, "question": f"Again: {t['question']}"} for t in run.trajectories)]
    path = write(tmp_path / "report.html", run._replace(trajectories=twice))
    assert len(read_page(path).all("article")) == 32
    assert path.stat().st_size < 3_000_000


def test_equal_runs_give_equal_pages(tmp_path: Path) -> None:
    pages = [write(tmp_path / name, sample_run()).read_bytes() for name in ("one.html", "two.html")]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"em_after": 61.0}, r"summary.em_after: expected is a number of at most 1; got 61.0"),
        ({"questions": 0}, r"summary.questions: expected is a number above 0; got 0"),
        ({"seed": None}, "summary.seed: expected is a whole number; got None"),
    ],
)
def test_bad_summaries_are_refused_by_field(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    run = sample_run()
    with pytest.raises(DataError, match=message):
        write(tmp_path / "report.html", run._replace(summary={**run.summary, **change}))
    assert not (tmp_path / "report.html").exists()
