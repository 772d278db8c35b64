"""The page of every metric: ``python -m slime_search.reference.metrics > docs/metrics.md``."""

import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from slime_search.hooks.metrics import DISTILLATION_PREFIX, PREFIX
from slime_search.recipes.thinker_searcher.service import sessions
from slime_search.retrieval import metrics as retriever

INTRODUCTION = """\
# Metrics

What a training logs goes where slime's own metrics go: to W&B, TensorBoard and its log. In an evaluation during
training `search/…` is `eval/<data set>/search/…`. Shares are between 0 and 1; a metric that nothing was counted for is
left out.

This page is made by `python -m slime_search.reference.metrics` from the code.
"""


class Metric(NamedTuple):
    unit: str
    meaning: str


class Family(NamedTuple):
    """Metrics that one function or class computes."""

    title: str
    place: str
    """``file::name`` of what computes them, from the repository's root."""
    prefix: str
    metrics: Mapping[str, Metric]
    note: str = ""


class SlimesMetric(NamedTuple):
    """A metric of slime's own, and the file of slime that logs it, from slime's root."""

    place: str
    unit: str
    meaning: str


SHARE = "share"
_SCORES = {
    "em": Metric(SHARE, "of rollouts whose answer is a gold answer, word for word after normalisation"),
    "f1": Metric(SHARE, "of words that answer and gold answer have in common (F1), on average"),
    "cover_em": Metric(SHARE, "of rollouts whose answer holds a gold answer"),
    "well_formed": Metric(SHARE, "of rollouts in which every turn kept to the format"),
    "retrieval_hit": Metric(SHARE, "of rollouts in which a search found a gold answer"),
    "searched": Metric(SHARE, "of rollouts with a search"),
    "answered": Metric(SHARE, "of rollouts with an answer"),
}
_COUNTS = {
    "searches": Metric("a rollout", "searches"),
    "turns": Metric("a rollout", "the model's turns"),
    "valid_actions": Metric(SHARE, "of whole turns that held a valid action"),
    "observation_tokens": Metric("tokens a rollout", "what tools and corrections wrote"),
    "truncated": Metric(SHARE, "of rollouts that a token budget ended"),
    "out_of_turns": Metric(SHARE, "of rollouts whose model wanted to act after its last allowed action"),
    "aborted": Metric(SHARE, "of rollouts that slime cancelled; they go on later"),
    "failed": Metric(SHARE, "of rollouts that a service failed; nothing is learned from them"),
    "drift": Metric(SHARE, "of rollouts that an engine rendered other than they were held"),
    "lost_tokens": Metric("tokens a rollout", "tokens that such a rendering replaced, and that are not trained on"),
    "latency_p50": Metric("s a search", "half of the searches took less, with queueing and retries"),
    "latency_p95": Metric("s a search", "95 % of the searches took less"),
}
_PAGES = {
    "cache_hits": Metric(SHARE, "of searches whose results were known already, where the search tells"),
    "page/<outcome>": Metric(SHARE, "of web pages: `page/read`, or the reason why the snippet stood for the page"),
}
_SEARCHER = {
    "thinker_s": Metric("s a rollout", "the Thinker itself at work"),
    "delegation_depth": Metric("turns a question", "the Searcher's turns"),
    "searcher_queries": Metric("a question", "the Searcher's searches"),
    "searcher_answered": Metric(SHARE, "of questions that the Searcher answered"),
    "searcher_success": Metric(SHARE, "of questions whose answer holds a gold answer of the Thinker's own question"),
    "searcher_model_s": Metric("s a question", "the Searcher's engine at work"),
    "searcher_search_s": Metric("s a question", "its searches"),
    "searcher_wait_s": Metric("s a question", "what is left of a call: on the way and in queues"),
}
_CODA = {
    "tasks": Metric("a rollout", "tasks that the planner delegated"),
    "executor_tokens": Metric("tokens a rollout", "responses of its executors"),
    "executors_well_formed": Metric(SHARE, "of executors that kept to the format"),
    "refined": Metric(SHARE, "of rollouts with a task in which an executor refined what it had found"),
    "tasks_solved": Metric(SHARE, "of tasks that an executor answered"),
}
_DISTILLATION = {
    "failures": Metric(SHARE, "of samples that the teacher failed"),
    "aligned": Metric(SHARE, "of trained tokens of which the teacher says something"),
    "kl": Metric("nats a token", "mean of log p_student − log q_teacher over those, before clipping"),
    "remembered": Metric(SHARE, "of the teacher's tokens whose log-probabilities were known before"),
}
_RED = {
    "weight": Metric("factor", "λ, by which the demonstrations' loss counts"),
    "accuracy": Metric(SHARE, "of the step's rollouts that were right, on which the weight depends"),
    "entropy_sft": Metric("nats a token", "the policy's entropy on demonstrations"),
    "entropy_rl": Metric("nats a token", "the policy's entropy on rollouts"),
}
_RED_LOSS = {
    "sft_loss": Metric("nats a token", "the demonstrations' loss, unweighted"),
    "red_weight": Metric("factor", "λ again, as the loss used it"),
}
_EVALUATION = {
    **{name: _SCORES[name] for name in ("em", "f1", "cover_em", "retrieval_hit")},
    "searches": _COUNTS["searches"],
    "response_tokens": Metric("tokens a rollout", "what the policy sampled, in all contexts"),
}
_HOOKS = "slime_search/hooks/metrics.py"


def families() -> Iterable[Family]:
    """All of them, in the order of the page."""
    yield Family("Rollouts", f"{_HOOKS}::rollout_metrics", PREFIX, _SCORES | _COUNTS, _MEAN)
    yield Family("What searches tell", f"{_HOOKS}::_search_metrics", PREFIX, _PAGES)
    yield Family("Thinker and Searcher", f"{_HOOKS}::searcher_metrics", PREFIX, _SEARCHER)
    yield Family("CoDA", f"{_HOOKS}::coda_metrics", PREFIX, _CODA)
    yield Family("Distillation", f"{_HOOKS}::distillation_metrics", DISTILLATION_PREFIX, _DISTILLATION, _OPD)
    yield Family("RED", "slime_search/hooks/red/weights.py::_report", "rollout/red/", _RED)
    yield Family("RED's loss", "slime_search/hooks/red/loss.py::red_loss", "train/", _RED_LOSS)
    yield Family("Evaluation", "slime_search/evaluation/scores.py::METRICS", "", _EVALUATION, _INTERVALS)
    yield Family(
        "The retriever's `/metrics`",
        "slime_search/retrieval/metrics.py::Metrics",
        "",
        _of(retriever.Metrics().render()),
    )
    service = "slime_search/recipes/thinker_searcher/service/sessions.py::Metrics"
    yield Family("The Searcher's `/metrics`", service, "", _of(sessions.Metrics().render()))


_MEAN = "Each is a mean over rollouts. Scores leave failed and aborted rollouts out."
_OPD = "slime itself adds `rollout/opd_reverse_kl`, which is none of its `train/` metrics."
_INTERVALS = (
    "In `summary.json` and the tables, for each data set and on average over them, with 95 % intervals; beside them "
    "the numbers of questions, rollouts and failures, and the latency of a question (`latency_p50_s`, `latency_p95_s`)."
)


_STEP = "slime/backends/megatron_utils/model.py"
_LOSS = "slime/backends/megatron_utils/loss.py"
_BATCH = "slime/observability/train_metric_utils.py"
_SAMPLES = "slime/observability/rollout_metrics.py"
_RATIO = "as the ratio of new to old policy tells; 0 where slime takes a step a rollout and computes no old one apart"
SLIMES: Mapping[str, SlimesMetric] = {
    "rollout/raw_reward": SlimesMetric(_BATCH, "reward", "mean over samples; a failed one counts as 0"),
    "rollout/rewards": SlimesMetric(_BATCH, "reward", "the same, normalised in groups"),
    "rollout/response_lengths": SlimesMetric(_BATCH, "tokens a sample", "results included"),
    "rollout/opd_reverse_kl": SlimesMetric(
        _BATCH, "nats a token", "log p_student − log q_teacher, as the advantage subtracts it; a mean over rollouts"
    ),
    "rollout/advantages": SlimesMetric(_BATCH, "advantage a token", "mean over rollouts"),
    "rollout/returns": SlimesMetric(_BATCH, "return a token", "mean over rollouts; under RED a mark"),
    "rollout/values": SlimesMetric(_BATCH, "value a token", "a critic's, mean over rollouts; under RED a mark"),
    "rollout/response_len/mean": SlimesMetric(_SAMPLES, "tokens a sample", "what the policy sampled"),
    "rollout/truncated_ratio": SlimesMetric(
        _SAMPLES, SHARE, "of samples that ended `TRUNCATED`, out of turns included"
    ),
    "rollout/zero_std/count_<reward>": SlimesMetric(_SAMPLES, "groups", "whose samples all have that reward"),
    "eval/<data set>": SlimesMetric(_SAMPLES, "reward", "mean over rollouts; a failed one counts as 0"),
    "eval/<data set>/response_len/mean": SlimesMetric(_SAMPLES, "tokens a sample", "what the policy sampled"),
    "eval/<data set>-truncated_ratio": SlimesMetric(_SAMPLES, SHARE, "of rollouts that ended `TRUNCATED`"),
    "train/loss": SlimesMetric(_LOSS, "loss", "the whole of it"),
    "train/pg_loss": SlimesMetric(_LOSS, "loss", "of the policy gradient"),
    "train/kl_loss": SlimesMetric(_LOSS, "nats a token", "divergence from the reference, before its coefficient"),
    "train/entropy_loss": SlimesMetric(_LOSS, "nats a token", "the policy's entropy"),
    "train/pg_clipfrac": SlimesMetric(_LOSS, SHARE, f"of tokens that were clipped, {_RATIO}"),
    "train/ppo_kl": SlimesMetric(_LOSS, "nats a token", f"distance from the old policy, {_RATIO}"),
    "train/train_rollout_logprob_abs_diff": SlimesMetric(
        _LOSS, "nats a token", "distance of the trainer's log-probabilities from the engine's"
    ),
    "train/grad_norm": SlimesMetric(_STEP, "norm", "of the gradient, before it is clipped"),
}
"""Those that the documentation speaks of. An opt-in test holds them against what slime logs."""

_OF_SLIME = """\
## slime's own

A rollout that a service failed, or that slime called off, stays in its step as a sample of which no token is trained.
It is in no score of `search/…`, nor in its group's mean and deviation. slime's own means know nothing of that:

- Every `train/` mean, and `rollout/advantages` and its like, is a sum over rollouts divided by all of them,
  `--global-batch-size` or the rollout's. With x % failed rollouts they are x % smaller, and so is the gradient before
  it is clipped: in a step of 256 with 64 failed ones it is three quarters of what the 192 others have together. Adam is
  blind to a share that stays the same, and a gradient that is clipped ends at the same length.
- With `--calculate-per-token-loss` tokens are counted, and a failed rollout counts as one: of 64 in 256 rollouts of 500
  trained tokens that is 0.07 %.
- `rollout/raw_reward` and `eval/<data set>` count it as 0. `search/em` is of the others, as are those two divided by 1
  less `search/failed` and `search/aborted`.

Those that this documentation speaks of:

| metric | unit | meaning | logged by slime in |
|---|---|---|---|
"""


def reference() -> str:
    """The whole page, as Markdown."""
    return "\n".join([INTRODUCTION, *map(_part, families()), _slimes_own()])


def _slimes_own() -> str:
    rows = [f"| `{name}` | {unit} | {meaning} | `{place}` |" for name, (place, unit, meaning) in SLIMES.items()]
    return _OF_SLIME + "\n".join([*rows, ""])


def _part(family: Family) -> str:
    file, _, name = family.place.partition("::")
    where = f"Computed by `{name}` in [`{file.removeprefix('slime_search/')}`](../{file})."
    head = "| metric | unit | meaning |\n|---|---|---|"
    rows = [f"| `{family.prefix}{name}` | {unit} | {meaning} |" for name, (unit, meaning) in family.metrics.items()]
    return "\n".join([f"## {family.title}\n", f"{where} {family.note}".strip() + "\n", head, *rows, ""])


def _of(exported: bytes) -> dict[str, Metric]:
    """What a server exports at ``/metrics``, from what it says of itself there."""
    from prometheus_client.parser import text_string_to_metric_families

    found = {}
    for family in text_string_to_metric_families(exported.decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        unit = "s" if name.endswith("_seconds") else "count"
        found[name] = Metric(f"{unit}, {family.type}", family.documentation.rstrip("."))
    return {name: metric for name, metric in found.items() if not name.endswith("_created")}


if __name__ == "__main__":
    sys.stdout.write(reference())
