"""Retrieval servers, Google, corpora and indexes."""

import gzip
import json
import socket
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
from aiohttp import web

from slime_search.ops.doctor import index, search
from slime_search.ops.doctor.examine import carry_out
from slime_search.ops.doctor.index import count_rows, index_facts
from slime_search.ops.doctor.results import Result, Status
from slime_search.ops.doctor.search import searcher
from slime_search.retrieval.corpus import Corpus
from tests.ops.doctor.doctor_site import Site, statuses, the
from tests.support.loopback import LoopbackServer, edited, status
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.scripted_web import KEY, Serper


class Ready(LoopbackServer):
    """Answers /ready as it is told."""

    answer = 200

    def routes(self) -> Iterable[web.RouteDef]:
        async def ready(request: web.Request) -> web.Response:
            return web.Response(status=self.answer)

        return [web.get("/ready", ready)]


@pytest.fixture
def server() -> Iterator[ScriptedRetriever]:
    with ScriptedRetriever(lambda query: [f"Title {n}\nabout {query}" for n in range(9)]) as running:
        yield running


def retriever(site: Site, **given: object) -> Result:
    (found,) = carry_out(search.retriever, site.setup(**given))
    return found


def test_a_server_answers_a_question_of_the_data(site: Site, server: ScriptedRetriever) -> None:
    site.change(RETRIEVAL_SERVER_URL=server.url, SLIME_SEARCH_TOPK="4")
    found = retriever(site)
    assert found.status is Status.PASS
    assert f"{server.search_url} answers 'who wrote text 0' with 4 of 4 passages, the first on 'Title 0'" in found.found
    assert "run_with_retrieval.sh wants the port for its own" in found.found
    assert server.lookups[-1].body["topk"] == 4


def test_every_server_is_asked(site: Site, server: ScriptedRetriever, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETRIEVAL_SERVER_URL")
    site.change(SLIME_SEARCH_LOCAL__SEARCH_URL=f"{server.search_url},http://127.0.0.1:{site.port}/retrieve")
    found = carry_out(search.retriever, site.setup())
    assert [result.status for result in found] == [Status.PASS, Status.FAIL]
    assert found[1].name == f"retriever 127.0.0.1:{site.port}"


FAULTS = {
    "a token": (status(401), Status.FAIL, "SLIME_SEARCH_RETRIEVER_TOKEN"),
    "an error": (status(500), Status.FAIL, "start one"),
    "another path": (status(404), Status.FAIL, "name the whole URL"),
    "too little": (
        edited(lambda body: {"result": [body["result"][0][:1]]}),
        Status.WARN,
        "is the corpus the right one?",
    ),
    "another protocol": (edited(lambda body: {"hits": []}), Status.FAIL, "start one"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_server_that_does_not_answer_well(site: Site, server: ScriptedRetriever, case: str) -> None:
    fault, expected, fix = FAULTS[case]
    server.script = lambda lookup: fault
    site.change(RETRIEVAL_SERVER_URL=server.url)
    found = retriever(site)
    assert (found.status, fix in found.fix) == (expected, True), found


def test_the_token_is_sent(site: Site, server: ScriptedRetriever) -> None:
    site.change(RETRIEVAL_SERVER_URL=server.url)
    assert retriever(site, token="token-secret").status is Status.PASS
    assert server.lookups[-1].headers["Authorization"] == "Bearer token-secret"


def test_a_server_that_the_wrapper_will_start(site: Site) -> None:
    found = retriever(site)
    assert (found.status, f"starts it on port {site.port}" in found.found) == (Status.SKIP, True)
    site.change(CORPUS_PATH=site.folder / "nowhere.jsonl", RETRIEVER_NAME="e5")
    found_all = carry_out(search.retriever, site.setup())
    assert [result.status for result in found_all] == [Status.FAIL] * 2
    assert ["CORPUS_PATH" in found_all[0].found, "INDEX_PATH" in found_all[1].found] == [True, True]


def test_a_port_that_something_else_has(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.port)) as listener:
        listener.listen()
        # It answers nothing, so that the wrapper would find neither a server nor a free port.
        found = retriever(site)
    assert found.status is Status.FAIL
    assert f"port {site.port} is taken" in found.found


def test_google(site: Site) -> None:
    with Serper() as serper:
        site.change(SLIME_SEARCH_SEARCH_BACKEND="google", SLIME_SEARCH_GOOGLE__ENDPOINT=f"{serper.url}/search")
        site.change(XDG_CACHE_HOME=site.folder / "cache")
        (found,) = carry_out(search.google, site.setup())
        assert (found.status, "SERPER_API_KEY" in found.found + found.fix) == (Status.FAIL, True)
        site.change(SERPER_API_KEY="another-key")
        refused = the(carry_out(search.google, site.setup()), "Google")
        assert (refused.status, "key" in refused.fix) == (Status.FAIL, True)
        site.change(SERPER_API_KEY=KEY)
        serper.answer = {"organic": [{"title": "Paris", "snippet": "The capital.", "link": ""}]}
        answered = carry_out(search.google, site.setup())
        assert statuses(answered) == {"Google key": Status.PASS, "Google": Status.PASS}
        assert not any(KEY in part or "another-key" in part for result in [refused, *answered] for part in result)
    assert the(carry_out(search.google, site.setup()), "Google").status is Status.FAIL
    assert statuses(carry_out(search.retriever, site.setup())) == {"retriever": Status.SKIP}


def flat_index(path: Path, *, count: int, dimension: int, kind: str = "Flat") -> Path:
    built = faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    built.add(np.random.default_rng(0).normal(size=(count, dimension)).astype("float32"))
    faiss.write_index(built, str(path))
    return path


def encoder(folder: Path, dimension: int) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"hidden_size": dimension}))
    return folder


@pytest.mark.parametrize(
    ("count", "dimension", "told"),
    [
        (20, 8, None),
        (19, 8, "holds 19 vectors, but corpus_path"),
        (20, 16, "holds vectors of 16 numbers, but retriever_model"),
    ],
)
@pytest.mark.parametrize("kind", ["Flat", "SQ8", "HNSW4"])
def test_index_corpus_and_encoder(site: Site, count: int, dimension: int, told: str | None, kind: str) -> None:
    built = faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    vectors = np.random.default_rng(0).normal(size=(count, dimension)).astype("float32")
    built.train(vectors)
    built.add(vectors)
    path = site.folder / "an.index"
    faiss.write_index(built, str(path))
    model = encoder(site.folder / "encoder", 8)
    site.change(RETRIEVER_NAME="e5", INDEX_PATH=path, RETRIEVER_MODEL=model)
    facts = index_facts(path)
    assert (facts.vectors, facts.dimension) == (count, dimension)
    found = carry_out(index.index, site.setup())
    if told is None:
        assert statuses(found) == {"index": Status.PASS, "encoder": Status.PASS}
    else:
        (mismatch,) = found
        assert (mismatch.status, told in mismatch.found) == (Status.FAIL, True), mismatch


@pytest.mark.parametrize("kind", ["IDMap,Flat", "IDMap2,Flat", "IVF2,Flat"])
def test_an_index_whose_ids_are_no_rows(site: Site, kind: str) -> None:
    built = faiss.index_factory(8, kind, faiss.METRIC_INNER_PRODUCT)
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype("float32")
    built.train(vectors)
    built.add_with_ids(vectors, np.arange(1_001, 1_021))
    faiss.write_index(built, str(site.folder / "an.index"))
    model = encoder(site.folder / "encoder", 8)
    site.change(RETRIEVER_NAME="e5", INDEX_PATH=site.folder / "an.index", RETRIEVER_MODEL=model)
    (found,) = carry_out(index.index, site.setup())
    assert (found.status, "(1001, 1002, 1003, …)" in found.found) == (Status.FAIL, True), found
    lines = [json.dumps({"id": str(row + 1_001), "contents": f"passage {row}"}) for row in range(20)]
    (site.folder / "corpus.jsonl").write_text("\n".join(lines))
    index.count_rows.cache_clear()
    assert statuses(carry_out(index.index, site.setup())) == {"index": Status.PASS, "encoder": Status.PASS}


def test_an_index_that_is_cut_short(site: Site) -> None:
    path = flat_index(site.folder / "an.index", count=20, dimension=8)
    path.write_bytes(path.read_bytes()[:-9])
    site.change(RETRIEVER_NAME="e5", INDEX_PATH=path)
    (found,) = carry_out(index.index, site.setup())
    assert (found.status, found.fix) == (Status.FAIL, "download the rest of it")
    path.write_text("no index at all")
    (found,) = carry_out(index.index, site.setup())
    assert (found.status, "neither a FAISS index nor a store" in found.found) == (Status.FAIL, True)


def test_an_encoder_that_is_still_to_be_downloaded(site: Site) -> None:
    site.change(RETRIEVER_NAME="e5", RETRIEVER_MODEL="nobody/no-such-encoder")
    site.change(INDEX_PATH=flat_index(site.folder / "an.index", count=20, dimension=8))
    assert statuses(carry_out(index.index, site.setup())) == {"index": Status.PASS, "encoder": Status.WARN}


def test_a_row_that_is_no_passage(site: Site) -> None:
    path = site.folder / "corpus.jsonl"
    path.write_text(path.read_text() + '{"id": 3}\n')
    (found,) = carry_out(index.corpus, site.setup())
    assert (found.status, "line 21" in found.found, found.fix) == (
        Status.FAIL,
        True,
        "give the row a text or delete the line",
    )


def test_a_packed_corpus_is_estimated_until_the_server_has_counted_it(site: Site) -> None:
    rows = [json.dumps({"id": n, "contents": f"title {n}\n{n * 7919} is a number"}) for n in range(5000)]
    path = site.folder / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    estimated = count_rows(path)
    assert (estimated.exact, 500 < estimated.total < 50_000, str(estimated).startswith("about")) == (False, True, True)
    Corpus.read(path)
    count_rows.cache_clear()
    assert count_rows(path)[:2] == (5000, True)
    # "title", n, n * 7919, "number"; "is" and "a" are stop words.
    assert count_rows(path).words == pytest.approx(4, abs=0.1)


def test_a_tar_as_the_published_corpus_is_one(site: Site) -> None:
    path = site.folder / "packed.jsonl.gz"
    with tarfile.open(path, "w:gz") as packed:
        packed.add(site.folder / "corpus.jsonl", arcname="wiki.jsonl")
    assert not count_rows(path).exact
    site.change(CORPUS_PATH=path)
    assert statuses(carry_out(index.corpus, site.setup())) == {"corpus": Status.PASS}


def test_what_is_on_the_servers_machine_is_not_looked_at(site: Site, server: ScriptedRetriever) -> None:
    site.change(RETRIEVAL_SERVER_URL=server.url, CORPUS_PATH=site.folder / "not-here.jsonl")
    assert statuses(carry_out(index.corpus, site.setup())) == {"corpus": Status.SKIP}


def test_the_searcher_service(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.folder / "own_recipe.py").write_text(
        "from slime_search.recipes.thinker_searcher.recipe import ThinkerSearcher\nrecipe = ThinkerSearcher({})\n"
    )
    monkeypatch.syspath_prepend(site.folder)
    assert statuses(carry_out(searcher, site.setup())) == {"Searcher": Status.SKIP}
    with Ready() as service:
        site.change(SLIME_SEARCH_SEARCHER_URL=f"{service.url}/search")
        for answer, expected in ((200, Status.PASS), (503, Status.WARN), (404, Status.FAIL)):
            service.answer = answer
            assert statuses(carry_out(searcher, site.setup(recipe_name="own_recipe"))) == {"Searcher": expected}
    assert statuses(carry_out(searcher, site.setup(recipe_name="own_recipe"))) == {"Searcher": Status.FAIL}


def test_an_index_that_is_still_to_be_built_fits_on_the_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def room() -> Result:
        (found,) = carry_out(index.room_for_an_index, site.setup())
        return found

    site.change(RETRIEVER_NAME="bm25")
    assert room().status is Status.SKIP
    site.change(RETRIEVER_NAME="e5", INDEX_PATH=site.folder / "new" / "store", RETRIEVER_MODEL="some/encoder")
    assert room().status is Status.PASS
    assert "build-index --kind rabitq writes" in room().found
    assert "768 numbers each" in room().found
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    assert room().status is Status.FAIL
    assert "100 bytes are free" in room().found
    assert "INDEX_PATH" in room().fix
