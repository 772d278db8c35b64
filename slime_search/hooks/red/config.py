"""RED's settings, and what it needs of slime's arguments."""

import os
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from slime_search.config import RED_PREFIX
from slime_search.errors import ConfigError
from slime_search.hooks.contract import Args, option
from slime_search.validation import reason

KEY = "red"
"""The section of ``--custom-config-path`` that is read."""
HOOKS = {
    "rollout_function_path": "slime_search.hooks.red.rollout.generate_rollout",
    "rollout_data_postprocess_path": "slime_search.hooks.red.weights.weigh",
    "custom_loss_function_path": "slime_search.hooks.red.loss.red_loss",
}
"""The hooks belong together: each names what the others read."""
_REFUSED = {
    "normalize_advantages": "demonstrations would enter the whitening",
    "calculate_per_token_loss": "RED weighs a mean over rollouts",
    "use_rollout_logprobs": "the trainer's own log-probabilities are needed, and demonstrations have no others",
    "use_opd": "demonstrations have no teacher's log-probabilities",
    "use_routing_replay": "demonstrations have no recorded routing",
    "allgather_cp": "its context-parallel ranks could disagree about what a micro-batch holds",
    "log_passrate": "it takes the batch for whole groups",
}


class RedConfig(BaseSettings):
    """RED's settings: ``red: {…}`` in slime's YAML, and the environment, which wins (SLIME_SEARCH_RED__WEIGHT=0.5)."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=RED_PREFIX, use_attribute_docstrings=True, env_ignore_empty=True
    )

    sft_data: Path
    """The demonstrations, a parquet file."""
    sft_batch_size: int = Field(32, ge=1)
    """Demonstrations a training step."""
    weight: float = Field(1.0, gt=0)
    """Multiplies everything below; the loss is RL + weight·clamp(w·c)·SFT."""
    growth: float = Field(5.0, gt=1)
    """G, the most that w or c can be; their product lies in [1, G²]."""
    entropy_regulation: bool = True
    """w, the change of entropy on demonstrations relative to that on rollouts."""
    accuracy_aware: bool = True
    """c = G^(1 − 2·accuracy), so that demonstrations matter most where rollouts fail."""
    policy_shift: bool = False
    """Learn π/π_off instead of log π, with π_off = π + (1 − π)·accuracy: the better the rollouts, the less is learned
    from tokens that the policy would not have written."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def red_config(args: Args) -> RedConfig:
    """The settings of this run.

    Raises:
        ConfigError: names each key that is missing, unknown or out of range.
    """
    section = option(args, KEY) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{KEY} = {section!r}: write a mapping of keys to values")
    known = {f"{RED_PREFIX}{key}".upper() for key in RedConfig.model_fields}
    for name in os.environ:
        if name.startswith(RED_PREFIX) and name.upper() not in known:
            raise ConfigError(f"environment: unknown variable {name}; known: {', '.join(sorted(known))}")
    try:
        return RedConfig(**section)
    except ValidationError as error:
        raise ConfigError("\n".join(map(_explain, error.errors(include_url=False)))) from None


def check_arguments(args: Args, config: RedConfig) -> None:
    """Whether slime's arguments go together with RED.

    Raises:
        ConfigError: names the option, why, and what to write.
    """
    for name, path in HOOKS.items():
        if option(args, name) != path:
            raise ConfigError(f"{_flag(name)} {option(args, name)}: RED needs {path}")
    if args.loss_type != "custom_loss":
        raise ConfigError(f"--loss-type {args.loss_type}: RED needs custom_loss")
    if args.advantage_estimator not in ("grpo", "gspo", "cispo"):
        raise ConfigError(f"--advantage-estimator {args.advantage_estimator}: RED knows grpo, gspo and cispo")
    for name, why in _REFUSED.items():
        if option(args, name):
            raise ConfigError(f"{_flag(name)}: leave it out; {why}")
    if option(args, "rollout_top_p", 1.0) != 1.0:
        raise ConfigError(f"--rollout-top-p {args.rollout_top_p}: leave it out; of demonstrations no nucleus is known")
    if option(args, "custom_reward_post_process_path") is None:
        raise ConfigError(
            "--custom-reward-post-process-path: not set, and slime's own normalisation would take demonstrations for "
            "rollouts; set slime_search.hooks.groups.normalize_rewards"
        )
    if config.entropy_regulation and not args.use_rollout_entropy:
        raise ConfigError(f"--use-rollout-entropy: not set; set it, or {KEY}.entropy_regulation: false")


def steps_of(args: Args, rollouts: int) -> int:
    """Training steps that a batch of ``rollouts`` is split into, when each has one more for the demonstrations.

    Raises:
        ConfigError: --global-batch-size leaves no room for them, or a rest; says what would do.
    """
    in_a_step = args.global_batch_size - 1
    if in_a_step < 1 or rollouts % in_a_step:
        # The wish is read from a number that would be right without RED.
        steps = max(1, round(rollouts / max(args.global_batch_size, 1)))
        while rollouts % steps:
            steps -= 1
        raise ConfigError(
            f"--global-batch-size {args.global_batch_size}: with RED a step has its rollouts and one more, which is "
            f"the demonstrations; for {rollouts} rollouts in {steps} steps give {rollouts // steps + 1}, and leave "
            "--num-steps-per-rollout out"
        )
    return int(rollouts // in_a_step)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _explain(error: Any) -> str:
    key = ".".join((KEY, *map(str, error["loc"])))
    if error["type"] == "missing":
        return f"{key}: not set; write it under {KEY}: in --custom-config-path, or export {RED_PREFIX}{key[4:].upper()}"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown; known: {', '.join(RedConfig.model_fields)}"
    variable = f"{RED_PREFIX}{key[4:]}".upper()
    name = f"environment, {variable}" if variable in os.environ else key
    return f"{name} = {os.environ.get(variable, error['input'])!r}: {reason(error)}"
