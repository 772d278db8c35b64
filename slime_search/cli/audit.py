"""What ``prepare-data --audit`` tells: which questions the corpus, and a retriever, can answer."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from slime_search.config import RETRIEVER_TOKEN, listed
from slime_search.data.coverage import Coverage, sets_of
from slime_search.ops.coverage import Asked, measure

if TYPE_CHECKING:
    from slime_search.data.prepare import Prepared
    from slime_search.data.questions import Question


def audit(
    prepared: "Prepared", corpus_path: Path, url: str | None, topk: int, questions: int, console: Console
) -> None:
    """Reads the corpus, asks the retriever at ``url``, and prints a line for each data set.

    Raises:
        SlimeSearchError: the corpus can't be read, or the retriever does not answer.
    """
    sets: dict[str, Sequence[Question]] = {}
    for use, parts in (("train", prepared.train), ("test", prepared.test)):
        for path in dict.fromkeys(part.path for part in parts):
            sets |= sets_of(path, use)
    retriever = None
    if url is not None:
        token = os.environ.get(RETRIEVER_TOKEN, "").strip() or None
        (whole,) = listed(url, path="/retrieve")
        retriever = Asked(whole, topk=topk, questions=questions, token=token)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("looking for gold answers", total=None)
        found = measure(
            sets,
            corpus_path,
            retriever=retriever,
            on_passages=lambda done, total: progress.update(task, completed=done, total=total),
        )
    _print(found, topk, console)


def _print(found: Sequence[Coverage], topk: int, console: Console) -> None:
    table = Table("data set", "questions", "yes or no", "gold answer in some passage", f"in the first {topk}", "asked")
    for of_set in found:
        searched = of_set.searched
        cells = [str(searched.hits), f"{searched.hits.total:,}"] if searched else ["", ""]
        table.add_row(of_set.name, f"{of_set.questions:,}", f"{of_set.by_reasoning:,}", str(of_set.corpus), *cells)
    table.caption = "with Wilson's 95 % intervals; yes and no count as covered"
    console.print(table)
    for of_set in found:
        console.print(f"{of_set.name}: {of_set.most}.", markup=False, highlight=False, soft_wrap=True)
        for question in of_set.missing:
            line = f"  in no passage: {question.text} ({', '.join(question.answers[:3])})"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
