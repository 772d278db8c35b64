"""Search-R1 on slime, with OpenAI tool calling over ``/v1/chat/completions``.

Put this folder on PYTHONPATH and point slime at it:

    --custom-generate-function-path generate_with_search_oai.generate
    --custom-rm-path generate_with_search_oai.reward_func
    --custom-reward-post-process-path slime_search.hooks.groups.normalize_rewards
    --input-key messages --tool-key tools --label-key label

``data_preprocess.py`` writes such a training file. Every other key, with its meaning and default, is in
``slime_search/config.py``. The environment overrides this dict: ``SLIME_SEARCH_CHAT__TOKEN_IN=input_ids``.
"""

from typing import Any

from slime_search.recipes.search_r1_tools import SearchR1Tools

SEARCH_R1_OAI_CONFIGS: dict[str, Any] = {
    # Turns that call the search function; a turn to answer always follows the last one.
    "max_turns": 3,
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
    "chat": {
        # "auto" asks once what takes token ids: the chat body, or /generate.
        "token_in": "auto",
        # For the chat template; Qwen3 thinks unless it is told {"enable_thinking": False}.
        "template_kwargs": {},
    },
    # Needed by TIS (--use-tis); without it the trainer recomputes all log-probabilities.
    "return_logprob": True,
    # What a well-formed wrong answer earns.
    "format_score": 0.2,
}

recipe = SearchR1Tools(SEARCH_R1_OAI_CONFIGS)
generate, reward_func = recipe.generate, recipe.reward_func
