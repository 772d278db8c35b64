"""The search that the policy will use: retrieval servers, or Google."""

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

from slime_search.config import SearchConfig
from slime_search.core.tool import Tool, ToolResult
from slime_search.errors import ConfigError, ServiceError
from slime_search.ops.doctor.data import a_question
from slime_search.ops.doctor.results import Result, failed, passed, skipped, warned
from slime_search.ops.doctor.setup import Setup
from slime_search.ops.launch.checks import problems_of_retriever
from slime_search.ops.launch.settings import port_of
from slime_search.recipes.thinker_searcher.config import ThinkerConfig
from slime_search.tools.from_config import google_search
from slime_search.tools.retriever import Retriever
from slime_search.transport.client import PooledSender, ServiceClient, close_sessions
from slime_search.transport.readiness import State, ask
from slime_search.transport.replicas import Replicas

_TIMEOUT_S = 60.0
_NO_ENTRY = (401, 403)
_SERVE = "start one: slime-search serve-retriever --help, or run_with_retrieval.sh, which does"
_START = "start it: slime-search serve-searcher --help"


def retriever(setup: Setup) -> Iterator[Result]:
    """Each retrieval server is ready and answers a real query with as many passages as are asked for."""
    if setup.config.search_backend != "local":
        yield skipped("retriever", f"search_backend is {setup.config.search_backend!r}")
        return
    if setup.starts_retriever:
        yield from _before_it_starts(setup)
        return
    for url in setup.search_urls:
        name = f"retriever {urlsplit(url).netloc}" if len(setup.search_urls) > 1 else "retriever"
        answer = setup.readiness[url]
        if answer.ready:
            yield _search_once(setup, url, name)
        elif answer.state is State.NOT_YET:
            yield warned(name, f"{url} is not ready yet: {answer.reason}", "wait, and look again")
        else:
            yield failed(name, f"{url}: {answer.reason}", _fix(url, answer.status))


def google(setup: Setup) -> Iterator[Result]:
    """serper.dev knows the key and answers one query, which it counts."""
    if setup.config.search_backend != "google":
        yield skipped("Google", f"search_backend is {setup.config.search_backend!r}")
        return
    # Nothing remembered, and the snippets alone: what is looked at is the service.
    asked = {"search_attempts": 1, "search_timeout_s": min(_TIMEOUT_S, setup.config.search_timeout_s)}
    config = setup.config.model_copy(update=asked)
    try:
        google_search(config)
        fresh = config.google.model_copy(update={"cache_days": 0.0, "snippet_only": True})
        tool = google_search(config.model_copy(update={"google": fresh}))
    except ConfigError as error:
        yield failed("Google", error.found, error.fix)
        return
    yield passed("Google key", _where_from(config))
    try:
        result = asyncio.run(_search(tool, "capital of France"))
    except ServiceError as error:
        refused = error.status in _NO_ENTRY
        fix = "look up the key at serper.dev" if refused else "is the internet reachable? google.proxy names a proxy"
        yield failed("Google", str(error), fix)
        return
    if result.passages:
        yield passed("Google", f"{config.google.endpoint} answers a query with {len(result.passages)} results")
    else:
        yield warned("Google", f"{config.google.endpoint} answers without results", "try a query at serper.dev")


def searcher(setup: Setup) -> Iterator[Result]:
    """Each Searcher service is ready, for a recipe that asks one."""
    config = setup.config
    if not isinstance(config, ThinkerConfig):
        yield skipped("Searcher", f"{setup.recipe_name} asks none")
        return
    if config.searcher_model is not None:
        yield skipped("Searcher", f"slime serves it, as its model {config.searcher_model!r}")
        return
    for url in config.searcher_urls:
        answer = ask(f"{url.removesuffix('/search')}/ready")
        if answer.ready:
            yield passed("Searcher", f"{url} is ready")
        elif answer.state is State.NOT_YET:
            yield warned("Searcher", f"{url} is not ready yet: {answer.reason}", "wait, and look again")
        else:
            yield failed("Searcher", f"{url}: {answer.reason}", _START)


def _before_it_starts(setup: Setup) -> Iterator[Result]:
    settings = setup.launch
    problems = list(problems_of_retriever(settings))
    for problem in problems:
        yield failed("retriever", problem.found, problem.fix)
    if not problems:
        what = "words (BM25)" if not settings.needs_index else f"{settings.retriever_name}, {settings.index_path}"
        port = port_of(settings.retrieval_server_url)
        finding = f"run_with_retrieval.sh starts it on port {port}, which is free: {what}, {settings.corpus_path}"
        yield skipped("retriever", finding)


def _search_once(setup: Setup, url: str, name: str) -> Result:
    config = setup.config
    sender = PooledSender(concurrency=1, timeout_s=_TIMEOUT_S, proxy=config.local.proxy)
    servers = Replicas(ServiceClient("retriever", sender, attempts=1), [url])
    query = a_question(setup)
    try:
        result = asyncio.run(_search(Retriever(servers, topk=config.topk, token=setup.token), query))
    except ServiceError as error:
        return failed(name, str(error), _fix(url, error.status))
    found = len(result.passages)
    finding = f"{url} answers {query[:60]!r} with {found} of {config.topk} passages"
    if found < config.topk:
        return warned(name, finding, "is the corpus the right one? BM25 finds only passages that share a word")
    finding += f", the first on {result.passages[0].title.strip()[:40] or 'no title'!r}"
    if setup.launch.is_local and url == f"{setup.launch.retrieval_server_url}/retrieve":
        finding += (
            ". It runs already: start the training script itself, run_with_retrieval.sh wants the port for its own"
        )
    return passed(name, finding)


def _fix(url: str, status: int | None) -> str:
    if status in _NO_ENTRY:
        return "export SLIME_SEARCH_RETRIEVER_TOKEN with the token that the server was started with"
    if status == 404 or not urlsplit(url).path.endswith("/retrieve"):
        return "name the whole URL of its /retrieve in local.search_url or RETRIEVAL_SERVER_URL"
    return _SERVE


def _where_from(config: SearchConfig) -> str:
    return "set in the configuration" if config.google.api_key else "SERPER_API_KEY is set"


async def _search(tool: Tool, query: str) -> ToolResult:
    try:
        return await tool(query)
    finally:
        await close_sessions()


CHECKS = (retriever, google, searcher)
