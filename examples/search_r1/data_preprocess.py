"""Writes the chat-format training file that ``generate_with_search_oai.py`` is trained on.

    python data_preprocess.py train.parquet train_oai.parquet

The input is Search-R1's parquet (PeterJinGo/nq_hotpotqa_train) or JSONL with a question and its golden_answers a line.
"""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.progress import track

from slime_search.data.prompts import SYSTEM_PROMPT, chat_row
from slime_search.data.questions import read_questions
from slime_search.errors import DataError
from slime_search.files import written_whole


def main(
    source: Annotated[Path, typer.Argument(help="Search-R1's .parquet, or .jsonl with question and golden_answers.")],
    target: Annotated[Path, typer.Argument(help="The .parquet file to write.")],
    system_prompt: Annotated[str, typer.Option(help="What the model is told before the question.")] = SYSTEM_PROMPT,
) -> None:
    """Turn questions and gold answers into chat messages, the search tool's schema and labels."""
    try:
        questions = track(read_questions(source), description=f"reading {source.name}")
        rows = [chat_row(question, system_prompt=system_prompt) for question in questions]
    except (DataError, OSError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from None
    with written_whole(target) as new:
        pq.write_table(pa.Table.from_pylist(rows), new)
    typer.echo(
        f"{len(rows):,} rows in {target}. Pass --input-key messages --tool-key tools --label-key label to slime."
    )


if __name__ == "__main__":
    typer.run(main)
