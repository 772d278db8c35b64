"""A Thinker that delegates one question, and the Searcher that answers it in two turns of its own."""

from pathlib import Path
from typing import Any

from slime_search.recipes.thinker_searcher.recipe import ThinkerSearcher
from tests.support.policies import by_turn, question_number, spoken_turns, think_answer, think_search
from tests.support.scripted_engine import Policy
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.scripted_searcher import ScriptedSearcher


def asking(context: str) -> str:
    """The Thinker's turns: delegates, then answers."""
    number = question_number(context)
    return think_answer(f"name-{number}") if spoken_turns(context) else think_search(f"Who made thing-{number}?")


def searching(context: str) -> str:
    """The Searcher's turns: one search, then an answer in a sentence."""
    number = question_number(context)
    if spoken_turns(context):
        return think_answer(f"thing-{number} was made by name-{number}.")
    return think_search(f"thing-{number} maker")


THINKER: Policy = by_turn(asking)
SEARCHER: Policy = by_turn(searching)


def thinker(searcher: ScriptedSearcher | None = None, **config: Any) -> ThinkerSearcher:
    """Few attempts, and no number of failures stops it, unless ``config`` says otherwise."""
    url = searcher.search_url if searcher else "http://127.0.0.1:9/search"
    defaults = {"searcher_url": url, "searcher_attempts": 2, "engine_attempts": 2, "search_attempts": 2}
    return ThinkerSearcher({**defaults, "max_failure_share": 1.0, **config})


def in_a_sentence(question: str) -> str:
    number = question.partition("thing-")[2].rstrip("?")
    return f"It was made by name-{number}."


def in_process(retriever: ScriptedRetriever, checkpoint: Path, **config: Any) -> ThinkerSearcher:
    local = {"search_url": retriever.search_url}
    return thinker(searcher_model="searcher", searcher_checkpoint=str(checkpoint), local=local, **config)
