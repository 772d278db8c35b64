"""The recipes by name, as the command line takes them: how each is built, and how each is asked a question."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from slime_search.data.prompts import PROMPT, SEVERAL_QUERIES_PROMPT, SYSTEM_PROMPT, as_question, planner_prompt
from slime_search.data.questions import Message
from slime_search.errors import ConfigError
from slime_search.hooks.driving import Recipe
from slime_search.recipes.base import recipe_in
from slime_search.recipes.coda.recipe import Coda
from slime_search.recipes.direct_answer import DIRECT_PROMPT, RAG_PROMPT, DirectAnswer, RetrieveThenAnswer
from slime_search.recipes.distillation.recipe import SearchDistillation, SearchTool
from slime_search.recipes.search_r1 import SearchR1
from slime_search.recipes.search_r1_tools import SearchR1Tools
from slime_search.recipes.thinker_searcher.recipe import ThinkerSearcher


@dataclass(frozen=True)
class Entry:
    """One recipe.

    ``prompt`` writes the messages that a question is asked with, where its row brings none; None where rows have to.
    With ``calls_tools`` the recipe renders them itself, tools included; for the others they are rendered as slime's
    ``--apply-chat-template`` does. A recipe that ``brings_prompt`` is asked with its own even where a row has one.
    """

    build: Callable[[Mapping[str, Any]], Recipe]
    prompt: Callable[[str], list[Message]] | None
    calls_tools: bool = False
    brings_prompt: bool = False

    def asks_with(self, question: str, messages: list[Message] | None) -> list[Message] | None:
        """The messages of a question whose row brings ``messages``: the row's, unless they are another recipe's."""
        if self.prompt is None:
            return messages
        if messages is None or self.brings_prompt or any(messages == prompt(question) for prompt in _PROMPTS):
            return self.prompt(question)
        return messages


class WithoutTeacher:
    """The hooks of a module whose recipe has a teacher, which is for training only: called as in an evaluation."""

    def __init__(self, hooks: Recipe, recipe: SearchDistillation) -> None:
        self.recipe = recipe
        self._generate = hooks.generate
        self.reward_func = hooks.reward_func

    async def generate(self, args: Any, sample: Any, params: Mapping[str, Any]) -> Any:
        return await self._generate(args, sample, params, evaluation=True)


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
    "distill": Entry(SearchTool, _chat(SEVERAL_QUERIES_PROMPT), calls_tools=True),
    # Baselines, which no training file is made for.
    "no-search": Entry(DirectAnswer, _user(DIRECT_PROMPT), brings_prompt=True),
    "rag": Entry(RetrieveThenAnswer, _user(RAG_PROMPT), brings_prompt=True),
}
_PROMPTS = tuple(entry.prompt for entry in RECIPES.values() if entry.prompt is not None)


def entry_of(name: str) -> Entry:
    """The recipe of that name, or the one in a module of that name, as slime takes it.

    Raises:
        ConfigError: there is neither, the module can't be imported, or it lacks a hook.
    """
    if name in RECIPES:
        return RECIPES[name]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"recipe: {name!r} is not one of {', '.join(RECIPES)}, nor a module that can be imported ({error}); for a "
            "recipe of your own, put its folder on PYTHONPATH"
        ) from error
    missing = [hook for hook in ("generate", "reward_func") if not callable(getattr(module, hook, None))]
    if missing:
        raise ConfigError(f"recipe: the module {name} has no {' and no '.join(missing)}; see docs/extending.md")
    own = recipe_in(module)
    hooks = cast(Recipe, module)
    if isinstance(own, SearchDistillation) and "evaluation" in inspect.signature(hooks.generate).parameters:
        hooks = WithoutTeacher(hooks, own)
    return Entry(lambda config: hooks, None, calls_tools=isinstance(own, SearchR1Tools))
