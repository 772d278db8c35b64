"""What each recipe is asked: its prompt, and the row of a question with it in a training file."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from slime_search.data.questions import Question
from slime_search.files import written_whole
from slime_search.recipes.coda.prompts import PLANNER_PROMPT
from slime_search.recipes.search_r1_tools import TOOL_SCHEMAS

# Word for word, since its checkpoints and its numbers come from this prompt.
PROMPT = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new "
    "information. After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query "
    "</search> and it will return the top searched results between <information> and </information>. You can search as "
    "many times as your want. If you find no further external knowledge needed, you can directly provide the answer "
    "inside <answer> and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>. "
    "Question: {question}\n"
)
SYSTEM_PROMPT = (
    "You answer questions with the help of a search function. Think first. If you lack knowledge, call search; you may "
    "call it several times, each time with one short query. When you know enough, give the final answer between "
    "<answer> and </answer>, as short as possible: a name, a place, a date, without explanation. "
    "For example: <answer>Beijing</answer>."
)
SEVERAL_QUERIES_PROMPT = (
    "You answer questions with the help of a search function. Think first. If you lack knowledge, call search; you may "
    "call it several times, each time with one short query or with a list of several. When you know enough, give the "
    "final answer between <answer> and </answer>, as short as possible: a name, a place, a date, without explanation. "
    "For example: <answer>Beijing</answer>."
)
"""Of the search agent in distillation, whose search takes one query or a list of them."""
_ROWS_A_GROUP = 10_000


def search_r1_row(question: Question, *, split: str, index: int) -> dict[str, Any]:
    """The training row of one question with Search-R1's prompt.

    slime reads ``prompt`` (``--input-key``) and ``reward_model`` (``--label-key``).
    """
    return {
        "id": question.id,
        "question": question.text,
        "golden_answers": list(question.answers),
        "data_source": question.source,
        "prompt": [{"role": "user", "content": PROMPT.format(question=as_question(question.text))}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": {"target": list(question.answers)}},
        "extra_info": {"split": split, "index": index},
        "metadata": {"question": question.text, "data_source": question.source},
    }


def coda_row(question: Question, *, split: str, index: int) -> dict[str, Any]:
    """The same with the prompt of CoDA's planner."""
    return {
        **search_r1_row(question, split=split, index=index),
        "prompt": [{"role": "user", "content": planner_prompt(question.text)}],
    }


def chat_row(
    question: Question, *, system_prompt: str = SYSTEM_PROMPT, tools: Sequence[Mapping[str, Any]] = TOOL_SCHEMAS
) -> dict[str, Any]:
    """The training row of one question, in the columns that slime's flags name.

    ``messages`` (``--input-key``) are a system and a user message, ``tools`` (``--tool-key``) the search function's
    schema as JSON, ``label`` (``--label-key``) the gold answers as a JSON list.
    """
    return {
        "messages": [
            {"role": "system", "content": system_prompt},
            {"role": "user", "content": as_question(question.text)},
        ],
        "tools": json.dumps(list(tools)),
        "label": json.dumps(question.answers, ensure_ascii=False),
        "metadata": {"question": question.text, "data_source": question.source},
    }


def as_question(text: str) -> str:
    """Without blanks around it and with a question mark, which NQ leaves out."""
    text = text.strip()
    return text if text.endswith("?") else f"{text}?"


def planner_prompt(question: str) -> str:
    """What CoDA's planner is asked."""
    return PLANNER_PROMPT.replace("{question}", as_question(question))


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows of one shape, at least one. The file has its name only once it is whole."""
    remaining = iter(rows)
    table = pa.Table.from_pylist(list(islice(remaining, _ROWS_A_GROUP)))
    with written_whole(path) as new, pq.ParquetWriter(new, table.schema) as writer:
        while len(table):
            writer.write_table(table)
            table = pa.Table.from_pylist(list(islice(remaining, _ROWS_A_GROUP)), schema=table.schema)
