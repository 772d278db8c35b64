"""Texts that try to run a script, to break the page or to break its writer."""

from typing import Any

from sample_run import Run

TEXTS = (
    "</script><script>document.title='owned'</script>",
    "</style><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '"><svg onload="document.title=\'owned\'">',
    "'><a href=\"javascript:document.title='owned'\">x</a>",
    "<!-- <script> -->",
    "<iframe srcdoc=\"<script>parent.document.title='owned'</script>\"></iframe>",
    "<meta http-equiv=refresh content='0;url=https://example.com/'>",
    "{{ 7 * 7 }}{% raw %}",
    "line\u2028separator\u2029\u202eover\x00\x1b[31m",
    "\ud800 lone \udfff",
    "&lt;b&gt; &amp;amp;",
)


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
