"""The Searcher service of Thinker–Searcher."""

from collections.abc import Iterator

from slime_search.doctor.results import Result, failed, passed, skipped, warned
from slime_search.doctor.setup import Setup
from slime_search.launch.readiness import ask
from slime_search.searcher.config import ThinkerConfig

_START = "start it: python -m slime_search.searcher --help"


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
        state = ask(f"{url.rstrip('/').removesuffix('/search')}/ready")
        if state.ready:
            yield passed("Searcher", f"{url} is ready")
        elif state.state.startswith("not reachable") or state.is_unknown:
            yield failed("Searcher", f"{url}: {state.state}", _START)
        else:
            yield warned("Searcher", f"{url} is not ready: {state.state}", "wait, and look again")
