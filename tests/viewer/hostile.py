"""The invented run with hostile texts wherever text may stand."""

from typing import Any

from tests.support.hostile_texts import TEXTS
from tests.viewer.sample_run import Run


def hostile_run(run: Run) -> Run:
    """``run`` with hostile texts in every place that holds text; its token counts grow accordingly."""
    for i, trajectory in enumerate(run.trajectories):
        text = TEXTS[i // 2 % len(TEXTS)]
        trajectory["question"] = f"{i // 2} {text}"
        trajectory["gold_answers"] = [text, "plain"]
        trajectory["answer"] = text
        (only,) = trajectory["runs"]
        for call in only["calls"]:
            call["query"] = text
            call["passages"] = [{"title": text, "text": f"{text} and plain"}]
            call["details"] = {text: text}
        for segment in only["segments"]:
            segment["tokens"] = [*segment["tokens"], *TEXTS]
            if segment["log_probs"] is not None:
                segment["log_probs"] = [*segment["log_probs"], *[-0.5] * len(TEXTS)]
    extra: dict[str, Any] = {text: [text, {text: text}] for text in TEXTS}
    return run._replace(summary={**run.summary, **extra})


def token_count(run: Run) -> int:
    return sum(
        len(segment["tokens"]) for trajectory in run.trajectories for segment in trajectory["runs"][0]["segments"]
    )
