"""Thinker–Searcher on slime: a small policy delegates its questions to a larger, frozen search agent.

Put this folder on PYTHONPATH and point slime at it:

    --custom-generate-function-path generate_with_thinker.generate
    --custom-rm-path generate_with_thinker.reward_func
    --custom-reward-post-process-path slime_search.hooks.groups.normalize_rewards

Every other key, with its meaning and default, is in ``slime_search/recipes/thinker_searcher/config.py`` and
``slime_search/config.py``.
The environment overrides this dict: ``SLIME_SEARCH_THINKER_MAX_TURNS=3``,
``SLIME_SEARCH_SEARCHER_URL=http://searcher:8001/search``.
"""

from typing import Any

from slime_search.recipes.thinker_searcher import ThinkerSearcher

THINKER_SEARCHER_CONFIGS: dict[str, Any] = {
    # Questions that the Thinker may delegate; a turn to answer always follows the last one.
    "thinker_max_turns": 2,
    # Searches that the Searcher may make for one of them.
    "searcher_max_turns": 3,
    # The Searcher service, or a list of several that share the questions.
    "searcher_url": "http://127.0.0.1:8001/search",
    # A whole session of the Searcher, queueing included.
    "searcher_timeout_s": 600,
    "searcher_attempts": 3,
    "searcher_concurrency": 256,
    # Instead of the service: a second, frozen model in slime's --sglang-config, and the folder with its tokenizer.
    "searcher_model": None,
    "searcher_checkpoint": None,
    # Tokens of the Searcher's answer that the Thinker reads.
    "max_observation_tokens": 400,
    # True tells every turn of every Thinker; a few hundred of them at once are too many to follow.
    "log_turns": False,
    # Needed by TIS (--use-tis); without it the trainer recomputes all log-probabilities.
    "return_logprob": True,
    # What a well-formed wrong answer earns.
    "format_score": 0.2,
}

recipe = ThinkerSearcher(THINKER_SEARCHER_CONFIGS)
generate, reward_func = recipe.generate, recipe.reward_func
