"""Questions and gold answers as chat-format training rows: messages, tools, label."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from slime_search.data.questions import Question
from slime_search.errors import DataError
from slime_search.files import written_whole
from slime_search.recipes.coda.prompts import PLANNER_PROMPT
from slime_search.recipes.search_r1_tools import TOOL_SCHEMAS
from slime_search.rewards.labels import gold_answers

_ROWS_A_GROUP = 10_000


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows of one shape, at least one. The file has its name only once it is whole."""
    remaining = iter(rows)
    table = pa.Table.from_pylist(list(islice(remaining, _ROWS_A_GROUP)))
    with written_whole(path) as new, pq.ParquetWriter(new, table.schema) as writer:
        while len(table):
            writer.write_table(table)
            table = pa.Table.from_pylist(list(islice(remaining, _ROWS_A_GROUP)), schema=table.schema)


# Word for word, since its checkpoints and its numbers come from this prompt.
PROMPT = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new "
    "information. After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query "
    "</search> and it will return the top searched results between <information> and </information>. You can search as "
    "many times as your want. If you find no further external knowledge needed, you can directly provide the answer "
    "inside <answer> and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>. "
    "Question: {question}\n"
)


def search_r1_row(question: Question, *, split: str, index: int) -> dict[str, Any]:
    """One row. slime reads ``prompt`` (--input-key) and ``reward_model`` (--label-key)."""
    text = question.text if question.text.endswith("?") else f"{question.text}?"
    return {
        "id": question.id,
        "question": question.text,
        "golden_answers": question.answers,
        "data_source": question.source,
        "prompt": [{"role": "user", "content": PROMPT.format(question=text)}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": {"target": question.answers}},
        "extra_info": {"split": split, "index": index},
        "metadata": {"question": question.text, "data_source": question.source},
    }


SYSTEM_PROMPT = (
    "You answer questions with the help of a search function. Think first. If you lack knowledge, call search; you may "
    "call it several times, each time with one short query. When you know enough, give the final answer between "
    "<answer> and </answer>, as short as possible: a name, a place, a date, without explanation. "
    "For example: <answer>Beijing</answer>."
)

_ANSWERS = ("golden_answers", "reward_model", "answers", "answer", "label")


def read_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a ``.parquet`` or ``.jsonl`` file. Blank lines are passed over, as slime does.

    Raises:
        DataError: it has another ending, can't be read, or a line is not a JSON object.
    """
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: not a parquet file ({error})") from error
    elif path.suffix == ".jsonl":
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    # Also what can't be decoded is a ValueError here.
                    row = json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number}: not JSON ({error})") from error
                if not isinstance(row, dict):
                    shown = line[:80].decode(errors="replace").strip()
                    raise DataError(f"{path}, line {number}: {shown!r} is not a JSON object")
                yield row
    else:
        raise DataError(f"{path}: give a .parquet or .jsonl file")


def chat_row(
    row: Mapping[str, Any], *, system_prompt: str = SYSTEM_PROMPT, tools: Sequence[Mapping[str, Any]] = TOOL_SCHEMAS
) -> dict[str, Any]:
    """The training row of one question, in the columns that slime's flags name.

    ``messages`` (``--input-key``) are a system and a user message, ``tools`` (``--tool-key``) the search function's
    schema as JSON, ``label`` (``--label-key``) the gold answers as a JSON list.

    Raises:
        DataError: the row has no ``question``, or no answers in any of the columns in which data sets keep them.
    """
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"question: {question!r} is not a text; the row has the columns {', '.join(row)}")
    # A parquet column that a data set does not use may still be there, empty.
    answers = next((row[key] for key in _ANSWERS if row.get(key) not in (None, "", [])), None)
    if answers is None:
        raise DataError(f"answers: none of {', '.join(_ANSWERS)} is in the row, which has {', '.join(row)}")
    return {
        "messages": [
            {"role": "system", "content": system_prompt},
            {"role": "user", "content": as_question(question)},
        ],
        "tools": json.dumps(list(tools)),
        "label": json.dumps(gold_answers(answers), ensure_ascii=False),
        "metadata": {"question": question, "data_source": str(row.get("data_source") or "")},
    }


def as_question(text: str) -> str:
    """Without blanks around it and with a question mark, which NQ leaves out."""
    text = text.strip()
    return text if text.endswith("?") else f"{text}?"


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
