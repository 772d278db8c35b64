"""CoDA on slime: one model plans and executes.

Put this folder on PYTHONPATH and point slime at it:

    --custom-generate-function-path generate_with_coda.generate
    --custom-rm-path generate_with_coda.reward_func
    --custom-reward-post-process-path slime_search.hooks.groups.normalize_rewards

Every other key, with its meaning and default, is in ``slime_search/recipes/coda/recipe.py`` and
``slime_search/config.py``.
The environment overrides this dict: ``SLIME_SEARCH_TASKS_PER_TURN=4``, ``SLIME_SEARCH_EXECUTOR__MAX_TURNS=2``.
"""

from typing import Any

from slime_search.recipes.coda import Coda

PECO_OF_THE_PAPER: dict[str, Any] = {
    "correctness_weight": 6.0,
    "correctness_offset": -3.0,
    "format_weight": 1.0,
    "refinement_weight": 0.5,
}
CODA_CONFIGS: dict[str, Any] = {
    # Turns in which the planner delegates; a turn to answer always follows the last one.
    "max_turns": 4,
    # Over 1, each line of <task> is a task of its own, and they are carried out at once.
    "tasks_per_turn": 1,
    "executor": {
        # Searches a task; a turn to answer always follows the last one.
        "max_turns": 3,
    },
    "topk": 3,
    "search_concurrency": 256,
    "search_backend": "local",
    "local": {
        "search_url": "http://127.0.0.1:8000/retrieve",
        "proxy": None,
    },
    "return_logprob": True,
    # The metric is weighed by the section below; the penalties keep the planner from giving up or guessing.
    "reward": {"metric": "f1", "no_search_penalty": 0.0, "no_answer_penalty": 0.0},
    # Or PECO_OF_THE_PAPER. GRPO divides by the group's deviation, so the parts' proportions matter, not their size.
    "peco": {
        "correctness_weight": 1.0,
        "correctness_offset": 0.0,
        "format_weight": 0.1,
        "refinement_weight": 0.1,
    },
}

recipe = Coda(CODA_CONFIGS)
generate, reward_func = recipe.generate, recipe.reward_func
