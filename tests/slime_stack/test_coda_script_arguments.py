"""CoDA's trainings with demonstrations through slime's own ``parse_args``."""

from slime_search.hooks.red.config import HOOKS, check_arguments, red_config
from tests.slime_stack.run_scripts import Home
from tests.slime_stack.test_run_script_arguments import Parse, home, parse, understood

__all__ = ["home", "parse"]


def test_red_and_its_arguments_go_together(parse: Parse, home: Home) -> None:
    from argparse import Namespace

    (home.folder / "data/sft.parquet").touch()
    call = home.call(script="coda/train.sh", USE_RED="1")
    answer = parse(call)
    args = understood(answer)
    assert args["global_batch_size"] == 257
    assert HOOKS.keys() <= answer["hooks"].keys()  # they can be imported
    settings = {"sft_data": call["environment"]["SLIME_SEARCH_RED__SFT_DATA"]}
    assert settings["sft_data"] == str(home.folder / "data/sft.parquet")
    known = Namespace(**args, red=settings)
    check_arguments(known, red_config(known))


def test_the_cold_start(parse: Parse, home: Home) -> None:
    (home.folder / "data/sft.parquet").touch()
    args = understood(parse(home.call(script="coda/train_sft.sh")))
    expected = {
        "loss_type": "sft_loss",
        "calculate_per_token_loss": True,
        "compute_advantages_and_returns": False,
        "debug_train_only": True,
        "n_samples_per_prompt": 1,
        "num_epoch": 3,
        "num_rollout": None,
        "metadata_key": "metadata",
        "apply_chat_template": False,
        "lr": 1e-5,
        "eval_interval": None,
    }
    assert {name: args[name] for name in expected} == expected
