"""A search agent on slime, trained by GRPO alone: the run that distillation is compared with.

Put this folder on PYTHONPATH and point slime at it:

    --custom-generate-function-path search_agent.generate
    --custom-rm-path search_agent.reward_func
    --custom-reward-post-process-path slime_search.hooks.groups.normalize_rewards
    --input-key messages --tool-key tools --label-key label

``slime-search prepare-data asearcher`` writes such training files. Every other key, with its meaning and default, is in
``docs/configuration.md``. The environment overrides this dict: ``SLIME_SEARCH_TOPK=3``, ``SLIME_SEARCH_MAX_TURNS=4``.
"""

from typing import Any

from slime_search.recipes.distillation import SearchTool

SEARCH_AGENT_CONFIGS: dict[str, Any] = {
    # The search tool takes one query, or a list of them.
    "retrieval_service_url": "http://127.0.0.1:8000/retrieve",
    "search_topk": 5,
    # Seconds, each of search_attempts attempts.
    "search_timeout": 60,
    "search_attempts": 4,
    "search_concurrency": 256,
    # Turns of the agent, the one that answers included.
    "max_steps": 10,
    # What a well-formed wrong answer earns.
    "format_score": 0.0,
}

recipe = SearchTool(SEARCH_AGENT_CONFIGS)
generate, reward_func = recipe.generate, recipe.reward_func
