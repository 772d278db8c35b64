"""The facts on a rollout: the same from its samples, which slime has, and from its line, which people keep."""

from dataclasses import asdict, replace
from typing import Any

import orjson
import pytest

from slime_search.config import SearchConfig
from slime_search.core.agent import Budget
from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import CallRecord, Trajectory
from slime_search.dialects.tags import SEARCH_R1_TAGS
from slime_search.errors import DelegateFailed
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.facts import EXECUTOR, RolloutFacts, facts_of
from slime_search.hooks.samples import RECORD_KEY, write_back, write_back_roles
from slime_search.records.from_samples import rollout_record
from slime_search.records.rollout import facts_of_row
from slime_search.rewards.search import score
from tests.support.agent_runs import OUTAGE, rollout, tool
from tests.support.policies import think_answer, think_search

SEARCH, ANSWER = think_search("thing-7 maker"), think_answer("name-7")


def sample() -> LocalSample:
    return LocalSample(index=0, label="name-7", metadata={"data_source": "nq", "question": "Who made thing-7?"})


def written(trajectory: Trajectory) -> list[LocalSample]:
    made = sample()
    write_back(None, made, trajectory, known_segments=0)
    if trajectory.error is None:
        result = score(trajectory, ["name-7"], SEARCH_R1_TAGS, SearchConfig())
        made.metadata[RECORD_KEY]["score"], made.reward = asdict(result), result.reward
    return [made]


def both(samples: list[LocalSample], tokenizer: Any) -> RolloutFacts:
    """The facts, once it is sure that both readers agree on them."""
    names = {"id": "nq/0/0", "group": "nq/0", "recipe": "search-r1", "stage": "step 3"}
    line = rollout_record(samples, TokenCodec(tokenizer), **names, wall_s=1.5).line()
    facts = facts_of_row(orjson.loads(line))
    rounded = tuple(round(latency_s, 4) for latency_s in facts_of(samples).latencies_s)
    assert facts == replace(facts_of(samples), **names, wall_s=1.5, latencies_s=rounded)
    return facts


def test_turns_corrections_searches_and_scores(qwen: Any) -> None:
    trajectory, _ = rollout(qwen, SEARCH, "I forgot the format.", ANSWER)
    facts = both(written(trajectory), qwen)
    assert (facts.turns, facts.corrections, facts.searches, len(facts.latencies_s)) == (3, 1, 1, 1)
    assert (facts.ending, facts.answer, facts.right, facts.score["em"]) == ("answered", "name-7", True, 1.0)
    assert facts.model_tokens == sum(trajectory.loss_mask)
    assert facts.model_tokens + facts.world_tokens == len(trajectory.response_ids)
    assert (facts.delegated, facts.failed_by) == (None, None)


def test_a_failed_search(qwen: Any) -> None:
    facts = both(written(rollout(qwen, SEARCH, search=tool(OUTAGE))[0]), qwen)
    assert (facts.failed_service, facts.failed_by, facts.is_scored, facts.right) == ("retriever",) * 2 + (False, None)
    assert (facts.searches, facts.turns) == (0, 1)


def test_running_out_of_turns_is_scored(qwen: Any) -> None:
    budget = Budget(tool_turns=1, corrections=0, turn_tokens=200)
    facts = both(written(rollout(qwen, SEARCH, SEARCH, budget=budget)[0]), qwen)
    assert (facts.ending, facts.is_scored, facts.turns, facts.searches) == ("out_of_turns", True, 2, 1)


@pytest.mark.parametrize("fails", [False, True])
def test_agents_together_and_who_delegated(qwen: Any, fails: bool) -> None:
    """A planner's task is no search, its executor's search is; the executor's last turn is a turn, too."""
    executor, _ = rollout(qwen, SEARCH, ANSWER)
    planner, _ = rollout(qwen, SEARCH, ANSWER)
    planner.calls = [CallRecord(0, "task", "Find out", (), 0.5, {EXECUTOR: 0})]
    if fails:
        # The message names another service than the one that failed, as an executor's may.
        planner.fail(DelegateFailed("searcher", "executor 1: engine at http://nowhere: down"))
    samples = write_back_roles(None, sample(), [(EXECUTOR, executor), ("planner", planner)])
    facts = both(samples, qwen)
    assert (facts.turns, facts.searches, facts.own_calls, facts.delegated) == (4, 1, 1, True)
    assert facts.failed_by == ("searcher" if fails else None)
