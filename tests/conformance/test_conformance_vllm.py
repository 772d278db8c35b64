"""The tool-calling recipe against vLLM, whose chat route takes no token ids."""

from collections import Counter

from slime_search.hooks.samples import RECORD_KEY
from tests.conformance.conformance_client import Reference
from tests.conformance.engine_processes import Server
from tests.conformance.trajectories import asked, assert_exact, played
from tests.support.chat_rollouts import tools_recipe
from tests.support.scripted_retriever import ScriptedRetriever


def test_what_vllm_sampled_is_trained_where_it_sampled_it(
    vllm_server: Server, reference: Reference, retriever: ScriptedRetriever
) -> None:
    rollouts = played(tools_recipe(retriever), vllm_server, asked(as_text=False))
    assert_exact([sample for rollout in rollouts for sample in rollout], reference)
    records = [rollout[-1].metadata[RECORD_KEY] for rollout in rollouts]
    drift = Counter[str]()
    for record in records:
        drift.update(record["drift"])
    assert drift["realigned"] or drift["forked"]
    assert {record["ending"] for record in records} <= {"answered", "truncated", "out_of_turns"}
