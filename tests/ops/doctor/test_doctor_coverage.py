"""``doctor --coverage``."""

import json

from slime_search.ops.doctor.coverage import coverage
from slime_search.ops.doctor.examine import carry_out
from slime_search.ops.doctor.results import Status
from tests.ops.doctor.doctor_site import Site
from tests.retrieval.retrieval_process import Server


def test_the_doctor_looks_where_it_is_asked_to(site: Site) -> None:
    assert carry_out(coverage, site.setup()) == []
    told: list[str] = []
    train, test, searched = carry_out(coverage, site.setup(measures_coverage=True, tell=told.append))
    assert (train.name, train.status) == ("coverage train nq", Status.WARN)
    assert "0 of 9 questions have a gold answer in some passage, 0.0% (0.0% to 29.9%)" in train.found
    assert (test.name, searched.status) == ("coverage test nq", Status.SKIP)
    assert told == ["the corpus for gold answers, 20 of 20 passages"]


def test_the_doctor_asks_a_retriever_that_runs(site: Site) -> None:
    path = site.folder / "corpus.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"id": "20", "contents": '"Ada"\nAda wrote text 3'}) + "\n")
    server = Server.of_corpus(path, "--port", str(site.port))
    try:
        server.wait_until_ready()
        train, _ = carry_out(coverage, site.setup(measures_coverage=True, coverage_questions=3))
    finally:
        server.end()
    assert train.status is Status.PASS
    assert "9 of 9 questions" in train.found
    assert "of 3 asked in the first 3 passages" in train.found


def test_without_a_corpus_it_says_what_is_missing(site: Site) -> None:
    site.change(CORPUS_PATH=site.folder / "nowhere.jsonl")
    [found] = carry_out(coverage, site.setup(measures_coverage=True))
    assert found.status is Status.SKIP
    assert "nowhere.jsonl has to exist" in found.found
