"""A search agent on slime, trained by GRPO and by a teacher's log-probabilities of what it wrote.

Put this folder on PYTHONPATH and point slime at it:

    --custom-generate-function-path search_agent_with_teacher.generate
    --custom-rm-path search_agent_with_teacher.reward_func
    --custom-reward-post-process-path slime_search.hooks.distillation.normalize_rewards
    --rollout-data-postprocess-path slime_search.hooks.distillation.forget_unscored
    --use-opd --opd-type sglang --opd-kl-coef 0.05
    --input-key messages --tool-key tools --label-key label

``start_teacher_server.sh`` serves the teacher. Every other key is in ``docs/configuration.md``, and the environment
overrides this dict: ``SLIME_SEARCH_TEACHER__URL=http://host:15555``.
"""

from typing import Any

from slime_search.recipes.distillation import SearchDistillation

DISTILLATION_CONFIGS: dict[str, Any] = {
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
    "teacher": {
        # One server or several that share the load.
        "url": "http://127.0.0.1:15555",
        # None: the teacher has the policy's tokenizer and is sent the policy's tokens. A folder or a name on the Hub:
        # it reads the conversation in its own template and tokens, which are aligned with the policy's.
        "tokenizer": None,
        # For the teacher's own chat template.
        "template_kwargs": {},
        # Requests on their way at most, and trajectories in one.
        "concurrency": 32,
        "batch_size": 8,
        # Nats by which student and teacher may differ at a token; None for no limit.
        "clip": None,
    },
}

recipe = SearchDistillation(DISTILLATION_CONFIGS)
generate, reward_func = recipe.generate, recipe.reward_func
