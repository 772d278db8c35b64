"""The recipe's configuration, as the run will read it."""

from collections.abc import Iterator

from slime_search.config import SearchConfig
from slime_search.errors import ConfigError
from slime_search.hooks.slime_options import conflicts
from slime_search.ops.doctor.results import Result, failed, passed, warned
from slime_search.ops.doctor.setup import Setup
from slime_search.ops.doctor.slime_flags import read_flags

_OPTIONS = "slime's options"


def configuration(setup: Setup) -> Iterator[Result]:
    """The recipe's dict, the YAML file and the environment make a valid configuration."""
    where = ", ".join(
        [
            *([f"the dict in {setup.recipe_name}"] if setup.recipe else []),
            *([str(setup.config_file)] if setup.config_file else []),
            "the environment (SLIME_SEARCH_…)",
        ]
    )
    try:
        config = setup.read_config()
    except ConfigError as error:
        yield failed("config", str(error), f"correct it where it is from: {where}")
        return
    yield passed("config", f"{_summary(config)}; from {where}")
    yield from _correction(setup, config)


def _summary(config: SearchConfig) -> str:
    return (
        f"max_turns {config.max_turns}, topk {config.topk}, {config.search_backend} search, "
        f"reward {config.reward.metric}, format_score {config.format_score:g}"
    )


def _correction(setup: Setup, config: SearchConfig) -> Iterator[Result]:
    """Truncated importance sampling has what it needs."""
    if not setup.run.use_tis:
        return
    if not config.return_logprob:
        yield failed(
            "USE_TIS", "return_logprob is False, and TIS compares log-probabilities", "set return_logprob to True"
        )
    elif setup.run.custom_config is not None:
        yield warned(
            "USE_TIS",
            "CUSTOM_CONFIG is not read: slime takes one --custom-config-path, and TIS has its own",
            "put both into one file and name it with TIS_CONFIG",
        )
    else:
        yield passed("USE_TIS", "the engine's log-probabilities are asked for")


def options(setup: Setup) -> Iterator[Result]:
    """slime can train on what rollouts become, with the options of TRAIN_SCRIPT and those after --."""
    config = setup.config
    args = read_flags(setup.run, setup.slime_flags)
    several = setup.recipe.several_samples(config) if setup.recipe else ""
    found = list(conflicts(args, config, several=several))
    yield from (failed(_OPTIONS, error.found, error.fix) for error in found)
    if not found:
        yield passed(_OPTIONS, f"{args.advantage_estimator}; failed rollouts are left out of it")


CHECKS = (configuration, options)
