"""Search-R1 on slime, with XML tags.

Put this folder on PYTHONPATH and point slime at it:

    --custom-generate-function-path generate_with_search.generate
    --custom-rm-path generate_with_search.reward_func
    --custom-reward-post-process-path slime_search.hooks.groups.normalize_rewards

Every other key, with its meaning and default, is in ``slime_search/config.py``. The environment overrides this dict:
``SLIME_SEARCH_TOPK=5``, ``SLIME_SEARCH_LOCAL__SEARCH_URL=http://retriever:8000/retrieve``.
"""

from typing import Any

from slime_search.recipes.search_r1 import SearchR1

SEARCH_R1_CONFIGS: dict[str, Any] = {
    # Searches a question; a turn to answer always follows the last one.
    "max_turns": 2,
    "topk": 3,
    "search_concurrency": 256,
    # "local" for a retrieval server, "google" for serper.dev.
    "search_backend": "local",
    "local": {
        "search_url": "http://127.0.0.1:8000/retrieve",
        "proxy": None,
    },
    "google": {
        # Better left alone: SERPER_API_KEY is read from the environment.
        "api_key": "your_api_key_here",
        # False reads the pages themselves, around their snippets.
        "snippet_only": True,
        "proxy": None,
    },
    # Needed by TIS (--use-tis); without it the trainer recomputes all log-probabilities.
    "return_logprob": True,
    # What a well-formed wrong answer earns.
    "format_score": 0.2,
}

recipe = SearchR1(SEARCH_R1_CONFIGS)
generate, reward_func = recipe.generate, recipe.reward_func
