"""Both recipes through the real sglang-router before the real SGLang: ``make test-sglang ROUTER=1``.

What each sampling means for training is in docs/token-truth.md.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from slime_search.engines.server_info import ServerKind, ask_server
from slime_search.engines.token_in import TokenIn
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.runtime import policy_chat
from slime_search.hooks.samples import RECORD_KEY
from slime_search.recipes.search_r1_tools import TOOL_SCHEMAS
from tests.conformance.conformance_client import Reference
from tests.conformance.engine_processes import Server
from tests.conformance.measured import MEASURED, row
from tests.conformance.relay import Relay, Turn, shares
from tests.conformance.trajectories import TAG_WORDS, TRAJECTORIES, WORDS, arguments, asked, assert_exact, played
from tests.support.chat_rollouts import generate_all, tools_recipe
from tests.support.rollouts import recipe as tags_recipe
from tests.support.rollouts import sampling_params
from tests.support.scripted_retriever import ScriptedRetriever

Status = LocalSample.Status
RecordProperty = Callable[[str, object], None]
SAMPLINGS = {"T=1": (1.0, 1.0), "T=0.7, top-p 0.9": (0.7, 0.9), "greedy": (0.0, 1.0)}
RECIPES = {"tools": tools_recipe, "tags": tags_recipe}
SMALL_TURN_TOKENS = 48

SHOWN = (
    ("a comet", "Comet: ice and dust that circles the sun.", "ice and dust"),
    ("basalt", "Basalt: a dark rock from lava.", "a dark rock"),
    ("a sonnet", "Sonnet: a poem of fourteen lines.", "a poem"),
)
"""What the model is shown of rollouts: it was never trained to search, and imitates."""
WRITTEN = {
    "tools": (
        '<tool_call>\n{{"name": "search", "arguments": {{"query": "what is {}"}}}}\n</tool_call>',
        "<tool_response>\n{}\n</tool_response>",
    ),
    "tags": ("<search> what is {} </search>", "<information>{}</information>"),
}
"""A call and its result in each recipe."""
SUBJECTS = ("a glacier", "the moon", "a violin", "tea", "the heart", "a bridge", "rust", "a vowel")


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_tiny_models_trajectories_hold_what_the_engine_sampled(
    recipe: str,
    sampling: str,
    router_server: Server,
    reference: Reference,
    retriever: ScriptedRetriever,
    record_property: RecordProperty,
) -> None:
    samples = asked(as_text=True, words=TAG_WORDS if recipe == "tags" else WORDS)
    run = _played(recipe, sampling, router_server, samples, retriever)
    record_property(MEASURED, run.judged(("tiny", recipe, sampling), reference))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.timeout(1200)
def test_a_pre_trained_models_trajectories_hold_what_the_engine_sampled(
    recipe: str,
    sampling: str,
    small_router_server: Server,
    small_reference: Reference,
    retriever: ScriptedRetriever,
    record_property: RecordProperty,
) -> None:
    samples = [_question(recipe, number) for number in range(TRAJECTORIES)]
    run = _played(recipe, sampling, small_router_server, samples, retriever, turn_tokens=SMALL_TURN_TOKENS)
    record_property(MEASURED, run.judged(("pre-trained", recipe, sampling), small_reference))


def _question(recipe: str, number: int) -> LocalSample:
    call, result = WRITTEN[recipe]
    said = []
    for subject, passage, answer in SHOWN:
        said += [f"What is {subject}?", call.format(subject), result.format(passage), f"<answer> {answer} </answer>"]
    said.append(f"What is {SUBJECTS[number % len(SUBJECTS)]}?")
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    return LocalSample(index=number, prompt=messages, label="x", session_id=f"s{number}")


@dataclass(frozen=True)
class _Run:
    samples: list[LocalSample]
    turns: list[Turn]
    """What the router was asked and answered."""
    temperature: float
    seconds: float

    def judged(self, names: Sequence[str], reference: Reference) -> str:
        """A row of what was measured. Fails unless what is trained is, turn by turn, what was asked and answered."""
        # There are turns after an observation; at temperature 1, which may be a model's undoing, of corrections only.
        assert len(self.turns) > len(self.samples)
        assert self.temperature == 1 or any(sample.metadata[RECORD_KEY]["calls"] for sample in self.samples)
        assert shares(self.turns, self.samples) == (1.0, 1.0)
        worst = assert_exact(self.samples, reference, self.temperature)
        return row(names, self.samples, self.turns, worst, self.seconds)


def _played(
    recipe: str,
    sampling: str,
    server: Server,
    samples: list[LocalSample],
    retriever: ScriptedRetriever,
    **options: Any,
) -> _Run:
    """The rollouts, each one sample in one context without a failure."""
    temperature, top_p = SAMPLINGS[sampling]
    start = time.perf_counter()
    with Relay(server.url) as relay:
        one, through = RECIPES[recipe](retriever, engine_attempts=8), replace(server, url=relay.url)
        rollouts = played(one, through, samples, temperature, top_p=top_p, **options)
    seconds = time.perf_counter() - start
    assert [len(rollout) for rollout in rollouts] == [1] * TRAJECTORIES
    found = [rollout[0] for rollout in rollouts]
    assert {sample.status for sample in found} <= {Status.COMPLETED, Status.TRUNCATED}
    records = [sample.metadata[RECORD_KEY] for sample in found]
    assert all(record["drift"] == {"realigned": 0, "forked": 0, "lost_tokens": 0} for record in records)
    return _Run(found, relay.turns, temperature, seconds)


def test_the_router_is_told_from_its_engine_and_chats_are_left(
    router_server: Server, sglang_server: Server, retriever: ScriptedRetriever
) -> None:
    through, there = asyncio.run(ask_server(router_server.url)), asyncio.run(ask_server(sglang_server.url))
    assert (through.kind, through.workers) == (ServerKind.ROUTER, (sglang_server.url,))
    assert (there.kind, there.software) == (ServerKind.ENGINE, "SGLang")
    assert (through.version, through.limits) == (there.version, there.limits)

    async def way(server: Server) -> TokenIn:
        return await policy_chat(arguments(server), tools_recipe(retriever).config(), TOOL_SCHEMAS).token_in()

    assert asyncio.run(way(router_server)) is TokenIn.GENERATE
    assert asyncio.run(way(sglang_server)) is TokenIn.INPUT_IDS


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("behind", ["router_server", "sglang_server"])
def test_what_outgrows_the_engines_context_is_truncated(
    behind: str, recipe: str, retriever: ScriptedRetriever, reference: Reference, request: pytest.FixtureRequest
) -> None:
    """At each distance from the limit, at which the engine would refuse a request or cut it short."""
    server = request.getfixturevalue(behind)
    limits = asyncio.run(ask_server(server.url)).limits
    assert limits is not None
    samples = []
    for left in range(1, 14):
        sample = LocalSample(index=left, prompt="a" * (limits.total_tokens - left), label="x", session_id=str(left))
        samples.append(sample)
    args = arguments(server)
    args.rollout_max_context_len = None
    params = sampling_params(max_new_tokens=4000, ignore_eos=True)
    results = generate_all(RECIPES[recipe](retriever), args, samples, params)
    for sample in results:
        assert sample.status is Status.TRUNCATED, sample.metadata[RECORD_KEY]
        assert not sample.remove_sample or sample.loss_mask == [0]
    # A prompt that the engine would refuse has no turn; others fill the context to the last token.
    filled = [sample for sample in results if sum(sample.loss_mask or ())]
    assert {len(sample.tokens) for sample in filled} == {limits.total_tokens}
    assert_exact(filled[:2], reference)
