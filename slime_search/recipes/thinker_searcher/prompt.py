"""What the Searcher is asked."""

from collections.abc import Callable
from functools import cache
from typing import Any

from slime_search.core.prompt_template import PromptTemplate
from slime_search.core.tokens import TokenCodec

QUESTION, SEARCHES = "{question}", "{searches}"
SEARCHER_PROMPT = (
    "Answer the question below from what a search engine finds. In every turn, first think between <think> and "
    "</think>. Then write either a search query between <search> and </search>, such as <search> director of Inception "
    "</search>, or your final answer between <answer> and </answer>. What a search finds comes back between "
    "<information> and </information>. You can search up to {searches} times, one query a turn. Answer in one or two "
    "sentences that name the facts which were found, such as <answer> Inception was directed by Christopher Nolan, who "
    "was born in London. </answer>. If nothing useful was found, say so in the answer.\n"
    "Question: {question}\n"
)


def searcher_prompt(codec: TokenCodec, template: str = SEARCHER_PROMPT) -> Callable[[str, int], list[int]]:
    """From a question and the searches that it may take to token ids.

    ``template`` holds ``{question}`` once, and may hold ``{searches}``. It becomes a user's message where the
    tokenizer has a chat template, and stays plain text where it has none.

    Raises:
        ConfigError: there is no place for the question, now or once a prompt is made.
    """
    chat: dict[str, Any] | None = {} if getattr(codec.tokenizer, "chat_template", None) else None

    @cache
    def for_searches(searches: int) -> PromptTemplate:
        return PromptTemplate(codec, template.replace(SEARCHES, str(searches)), QUESTION, chat)

    for_searches(1)
    return lambda question, searches: for_searches(searches).token_ids(question)
