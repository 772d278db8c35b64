"""Training rows for CoDA: what its planner is asked."""

from typing import Any

from slime_search.data.questions import Question
from slime_search.data.search_r1_format import search_r1_row
from slime_search.recipes.coda_prompts import PLANNER_PROMPT


def coda_row(question: Question, *, split: str, index: int) -> dict[str, Any]:
    """One row, with Search-R1's columns and the planner's prompt."""
    return {
        **search_r1_row(question, split=split, index=index),
        "prompt": [{"role": "user", "content": planner_prompt(question.text)}],
    }


def planner_prompt(question: str) -> str:
    """What the planner is asked, with a question mark, which NQ leaves out."""
    text = question if question.endswith("?") else f"{question}?"
    return PLANNER_PROMPT.replace("{question}", text)
