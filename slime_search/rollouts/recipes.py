"""The recipes by name, as the command line takes them: how each is built, and how each is asked a question."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slime_search.data.asearcher import SYSTEM_PROMPT as SEARCH_TOOL_PROMPT
from slime_search.data.chat_format import SYSTEM_PROMPT, as_question
from slime_search.data.coda_format import planner_prompt
from slime_search.data.search_r1_format import PROMPT
from slime_search.recipes.base import SearchRecipe
from slime_search.recipes.coda import Coda
from slime_search.recipes.direct_answer import DIRECT_PROMPT, RAG_PROMPT, DirectAnswer, RetrieveThenAnswer
from slime_search.recipes.distillation import SearchTool
from slime_search.recipes.search_r1 import SearchR1
from slime_search.recipes.search_r1_tools import SearchR1Tools
from slime_search.recipes.thinker_searcher import ThinkerSearcher

Message = dict[str, str]


@dataclass(frozen=True)
class Entry:
    """One recipe.

    ``prompt`` writes the messages that a question is asked with, where its row brings none. With ``calls_tools`` the
    recipe renders them itself, tools included; for the others they are rendered as slime's ``--apply-chat-template``
    does. A recipe that ``brings_prompt`` is asked with its own even where a row has one, which is another recipe's.
    """

    build: Callable[[Mapping[str, Any]], SearchRecipe[Any]]
    prompt: Callable[[str], list[Message]]
    calls_tools: bool = False
    brings_prompt: bool = False


def _user(template: str) -> Callable[[str], list[Message]]:
    def prompt(question: str) -> list[Message]:
        return [{"role": "user", "content": template.format(question=as_question(question))}]

    return prompt


def _coda(question: str) -> list[Message]:
    return [{"role": "user", "content": planner_prompt(question)}]


def _chat(system: str) -> Callable[[str], list[Message]]:
    def prompt(question: str) -> list[Message]:
        user = {"role": "user", "content": as_question(question)}
        return [{"role": "system", "content": system}, user]

    return prompt


RECIPES: Mapping[str, Entry] = {
    "search-r1": Entry(SearchR1, _user(PROMPT)),
    "search-r1-tools": Entry(SearchR1Tools, _chat(SYSTEM_PROMPT), calls_tools=True),
    "thinker-searcher": Entry(ThinkerSearcher, _user(PROMPT)),
    "coda": Entry(Coda, _coda),
    # Its teacher is for training only.
    "distill": Entry(SearchTool, _chat(SEARCH_TOOL_PROMPT), calls_tools=True),
    # Baselines, which no training file is made for.
    "no-search": Entry(DirectAnswer, _user(DIRECT_PROMPT), brings_prompt=True),
    "rag": Entry(RetrieveThenAnswer, _user(RAG_PROMPT), brings_prompt=True),
}
