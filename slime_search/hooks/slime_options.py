"""Options of slime with which it can't train on what rollouts of this package become.

Some rollouts hold no token that is trained: one that a service failed, or whose prompt left no room. Some have no
log-probabilities of the engine, and some are several samples. slime meets each of them somewhere between rollout and
loss, and where an option makes it stop there, the rollout is paid for already. So these options are refused before.
"""

from collections.abc import Iterator
from typing import Any

from slime_search.config import SearchConfig
from slime_search.errors import ConfigError
from slime_search.hooks.contract import Args, option

ESTIMATORS = ("grpo", "gspo", "cispo", "reinforce_plus_plus_baseline", "ppo")
"""Values of --advantage-estimator that leave a sample alone of which no token is trained. slime's other one,
``reinforce_plus_plus``, puts a rollout's reward on its last trained token and insists on there being one."""
DEFAULTS: dict[str, Any] = {
    "advantage_estimator": "grpo",
    "rollout_top_p": 1.0,
    "kl_coef": 0.0,
    "loss_type": "policy_loss",
    "rollout_batch_size": None,
    "n_samples_per_prompt": 1,
    "global_batch_size": None,
    "custom_reward_post_process_path": None,
    "custom_advantage_function_path": None,
    "dynamic_sampling_filter_path": None,
    "reward_key": None,
    "log_reward_category": None,
    **dict.fromkeys(
        (
            "debug_rollout_only",
            "normalize_advantages",
            "use_tis",
            "get_mismatch_metrics",
            "use_rollout_logprobs",
            "use_rollout_routing_replay",
            "use_routing_replay",
            "use_opd",
            "keep_old_actor",
            "partial_rollout",
            "group_rm",
            "log_passrate",
        ),
        False,
    ),
}
"""Every option that is looked at here, and what slime takes where it is not given."""

_SLIMES_DISTILLATION = "slime.rollout.on_policy_distillation.post_process_rewards"
_SLIMES_FILTERS = "slime.rollout.filter_hub.dynamic_sampling_filters."
_NEED_LOG_PROBS = {
    "use_tis": "compares the trainer's log-probabilities with the engine's",
    "get_mismatch_metrics": "compares the trainer's log-probabilities with the engine's",
    "use_rollout_logprobs": "takes the engine's log-probabilities for the old policy's",
    "use_rollout_routing_replay": "replays experts, which are kept beside the log-probabilities",
}
_TAKE_SAMPLES_FOR_ROLLOUTS = {
    "partial_rollout": "slime can't resume a rollout of several samples",
    "group_rm": "slime gives a group's rewards to samples, and a rollout of several is a list of them",
    "log_passrate": "slime counts samples, and wants as many as there are rollouts",
}


def check_options(args: Args, config: SearchConfig, *, several: str = "") -> None:
    """Whether slime can train on the rollouts of a run with these arguments.

    Args:
        config: the recipe's.
        several: why its rollouts become several samples each; "" where they don't.

    Raises:
        ConfigError: it can't; names the option, its value, why, and what else to take.
    """
    for error in conflicts(args, config, several=several):
        raise error


def check_several(args: Args, because: str) -> None:
    """The same for a run whose rollouts turn out to become several samples. Raises ConfigError."""
    if not option(args, "debug_rollout_only"):
        for error in _of_several(args, because):
            raise error


def conflicts(args: Args, config: SearchConfig, *, several: str = "") -> Iterator[ConfigError]:
    """Everything that ``check_options`` would refuse, one after the other."""
    if option(args, "debug_rollout_only"):
        return
    yield from _of_removed(args, config)
    yield from _of_nucleus(args, config)
    if not config.return_logprob:
        yield from _of_missing_log_probs(args)
    if several:
        yield from _of_several(args, several)


def _of_removed(args: Args, config: SearchConfig) -> Iterator[ConfigError]:
    estimator = option(args, "advantage_estimator", DEFAULTS["advantage_estimator"])
    if estimator == "reinforce_plus_plus" and not option(args, "custom_advantage_function_path"):
        yield ConfigError(
            f"--advantage-estimator {estimator}: slime stops at a sample of which no token is trained, as each rollout "
            "is that a service failed or whose prompt left no room",
            f"take {', '.join(ESTIMATORS[:-1])} or {ESTIMATORS[-1]}",
        )
    if option(args, "normalize_advantages") and config.max_failure_share >= 1:
        yield ConfigError(
            f"--normalize-advantages with max_failure_share = {config.max_failure_share:g}: where every rollout of a "
            "step fails, slime has no token to normalise over and stops",
            "set max_failure_share to 0.9 or less, so that the run stops before and names the service",
        )
    if option(args, "custom_reward_post_process_path") == _SLIMES_DISTILLATION:
        yield ConfigError(
            f"--custom-reward-post-process-path {_SLIMES_DISTILLATION}: it reads every reward as an answer of its "
            "teacher's, and a rollout that a service failed has none",
            "set slime_search.hooks.distillation.normalize_rewards or no_task_reward, with a recipe that asks a "
            "teacher (slime_search/recipes/distillation)",
        )
    category = option(args, "log_reward_category")
    if category and not option(args, "reward_key"):
        yield ConfigError(
            f"--log-reward-category {category}: slime looks for it in rewards that are a dict, and without "
            "--reward-key they are numbers",
            "set --reward-key too, or leave it out",
        )


def _of_nucleus(args: Args, config: SearchConfig) -> Iterator[ConfigError]:
    top_p = option(args, "rollout_top_p", DEFAULTS["rollout_top_p"])
    if top_p != 1.0 and not config.return_logprob:
        yield ConfigError(
            f"--rollout-top-p {top_p} with return_logprob = False: slime trains on the tokens that each one was drawn "
            "from, which the engine tells beside the log-probabilities",
            "set return_logprob to True, or leave --rollout-top-p out",
        )


def _of_missing_log_probs(args: Args) -> Iterator[ConfigError]:
    for name, why in _NEED_LOG_PROBS.items():
        if option(args, name):
            yield ConfigError(
                f"{_flag(name)} with return_logprob = False: it {why}",
                f"set return_logprob to True, or leave {_flag(name)} out",
            )
    if _computes_none_itself(args):
        yield ConfigError(
            "return_logprob = False with one training step a rollout: slime then leaves the trainer's own "
            "log-probabilities out as well, and has none at all to shape the advantages by",
            "set return_logprob to True, or let a rollout have several steps by a smaller --global-batch-size",
        )


def _computes_none_itself(args: Args) -> bool:
    """slime's ``can_reuse_log_probs_in_loss``, as far as a run without log-probabilities can get there."""
    rollouts, step = option(args, "rollout_batch_size"), option(args, "global_batch_size")
    if rollouts is None or step is None or rollouts * option(args, "n_samples_per_prompt", 1) != step:
        return False
    if option(args, "loss_type") not in (None, "policy_loss") or option(args, "kl_coef", 0.0) != 0:
        return False
    # gspo compares sequences, and ppo has the critic's values to go by.
    if option(args, "advantage_estimator") in ("gspo", "ppo"):
        return False
    replays = option(args, "use_routing_replay") and not option(args, "use_rollout_routing_replay")
    computing = ("use_rollout_logprobs", "get_mismatch_metrics", "keep_old_actor", "use_opd")
    return not replays and not any(option(args, name) for name in computing)


def _of_several(args: Args, because: str) -> Iterator[ConfigError]:
    for name, why in _TAKE_SAMPLES_FOR_ROLLOUTS.items():
        if option(args, name):
            yield ConfigError(f"{_flag(name)}: {why}. {because}", "leave the option out")
    path = option(args, "dynamic_sampling_filter_path")
    if path and path.startswith(_SLIMES_FILTERS):
        yield ConfigError(
            f"--dynamic-sampling-filter-path {path}: it asks samples for their reward, and a rollout of several is a "
            f"list of them. {because}",
            "set slime_search.hooks.filters.keep_varied",
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
