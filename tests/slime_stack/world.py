"""Questions about numbered things, a policy that meets each with another habit, and slime's own arguments for them."""

import random
import re
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from tests.support.policies import BOUNDARIES, question_number, spoken_turns, think_answer, think_search
from tests.support.rollouts import passage as passages
from tests.support.scripted_engine import Exchange, Policy, ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.training_view import TrainingView, training_view

__all__ = ["World", "passages", "wavering_policy"]

HABITS = ("one search", "two searches", "guess", "stumble", "search for ever", "ramble")
HOOKS = (
    "--custom-generate-function-path generate_with_search.generate "
    "--custom-rm-path generate_with_search.reward_func "
    "--custom-reward-post-process-path slime_search.hooks.groups.normalize_rewards "
)
MAX_NEW_TOKENS = 160


def habit(number: int) -> str:
    return HABITS[number % len(HABITS)]


def options(context: str) -> list[str]:
    """The turns that the policy may say next; it chooses one at random."""
    number, spoken = question_number(context), spoken_turns(context)
    answers = [think_answer(f"name-{number}"), think_answer("nobody")]
    search = think_search(f"thing-{number} maker, part {spoken}")
    match habit(number):
        case "one search":
            return [search] if spoken < 1 else answers
        case "two searches":
            return [search] if spoken < 2 else answers
        case "guess":
            return answers
        case "stumble":
            return ["I will think about it first.<|im_end|>", search][min(spoken, 1) :][:1] if spoken < 2 else answers
        case "search for ever":
            return [search]
        case _:
            return ["and so on " * 99]


def wavering_policy(seed: int) -> Policy:
    choice = random.Random(seed)

    def policy(context: str) -> str:
        start = max(context.rfind(mark) + len(mark) for mark in BOUNDARIES if mark in context)
        begun = context[start:]
        fitting = [turn for turn in options(context[:start]) if turn.startswith(begun)]
        assert fitting, f"no turn for thing-{question_number(context)} begins with {begun!r}"
        return choice.choice(fitting)[len(begun) :]

    return policy


def expected_reward(number: int, last_turn: str) -> float:
    """Worked out from the habit and the sampled text: 0.2 for form, which a stumble breaks."""
    right = f"<answer> name-{number} </answer>" in last_turn
    match habit(number):
        case "search for ever" | "ramble":
            return 0.0
        case "stumble":
            return 0.8 if right else 0.0
        case _:
            return 1.0 if right else 0.2


@dataclass
class World:
    engine: ScriptedEngine
    retriever: ScriptedRetriever
    checkpoint: Path
    folder: Path
    tokenizer: Any
    hooks: ClassVar[str] = HOOKS
    prompt_flags: ClassVar[str] = "--apply-chat-template"

    def data_set(self, numbers: range | list[int]) -> Path:
        """A parquet file in the columns of Search-R1's data."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [
            {
                "prompt": [{"role": "user", "content": f"Who made thing-{n}?"}],
                "reward_model": {"ground_truth": {"target": [f"name-{n}"]}, "style": "rule"},
            }
            for n in numbers
        ]
        path = self.folder / f"questions-{len(rows)}-{rows[0]['prompt'][0]['content'][14:-1]}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path

    def args(self, flags: str, **config: Any) -> Any:
        """slime's arguments, parsed and validated by slime; ``config`` goes into its --custom-config-path YAML."""
        from slime.backends.sglang_utils import arguments as sglang_arguments
        from slime.utils.arguments import get_slime_extra_args_provider, slime_validate_args

        overlay = {"local": {"search_url": self.retriever.search_url}, "search_attempts": 2, "engine_attempts": 2}
        yaml_path = self.folder / "custom_config.yaml"
        yaml_path.write_text(yaml.safe_dump({"slime_search": {**overlay, **config}}))
        parser = ArgumentParser(allow_abbrev=False)
        get_slime_extra_args_provider()(parser)
        sglang_arguments.add_sglang_arguments(parser)
        args = parser.parse_args(
            f"--hf-checkpoint {self.checkpoint} --custom-config-path {yaml_path} --num-rollout 9 "
            f"--input-key prompt --label-key reward_model {self.prompt_flags} --reward-key= "
            f"--rollout-max-response-len {MAX_NEW_TOKENS} --rollout-max-prompt-len 512 "
            f"--rollout-num-gpus 1 --rollout-num-gpus-per-engine 1 --router-policy consistent_hashing "
            f"--sglang-router-ip 127.0.0.1 --sglang-router-port {self.engine.port} {self.hooks} {flags}".split()
        )
        # What slime's two other parsers add.
        vars(args).update(debug_train_only=False, debug_rollout_only=False, load_debug_rollout_data=None)
        vars(args).update(train_backend="megatron", **{k: None for k in ("load", "save", "ref_load") if k not in args})
        slime_validate_args(args)
        sglang_arguments.validate_args(args)
        return args

    def start(self, args: Any) -> Any:
        """Connects slime's HTTP client and opens its data source."""
        from slime.rollout.data_source import RolloutDataSourceWithBuffer
        from slime.utils.http_utils import init_http_client

        init_http_client(args)
        return RolloutDataSourceWithBuffer(args)

    def exchanges(self, sample: Any) -> list[Exchange]:
        """The delivered requests of one sample, which slime's session id marks."""
        assert sample.session_id
        return [e for e in self.engine.delivered if e.headers.get("X-SMG-Routing-Key") == sample.session_id]

    def check_exact(self, sample: Any, exchanges: list[Exchange] | None = None) -> TrainingView:
        """The sample holds the engine's tokens, masks and log-probabilities, and what lies between is a result."""
        own = self.exchanges(sample) if exchanges is None else exchanges
        view = training_view(own)
        assert view.prompt_ids == self.tokenizer.encode(sample.prompt, add_special_tokens=False)
        assert sample.tokens == view.tokens
        assert sample.response_length == len(view.loss_mask)
        assert sample.rollout_log_probs == view.log_probs
        for world in view.world:
            text = self.tokenizer.decode(world)
            assert re.fullmatch(r"\n\n<information>Doc 1\(Title: .*?</information>\n\n", text, re.DOTALL) or (
                text.startswith("\nMy previous action is invalid.")
            )
            assert not set(world).intersection(self.tokenizer.all_special_ids)
        return view


def check_completed(world: World, sample: Any) -> None:
    """A sample that no service failed and no abort interrupted for good."""
    number = question_number(sample.prompt)
    view = world.check_exact(sample)
    assert sample.loss_mask == view.loss_mask
    last = world.exchanges(sample)[-1]
    assert sample.reward == pytest.approx(expected_reward(number, sample.response.rpartition("</information>")[2]))
    truncated = habit(number) in ("search for ever", "ramble")
    assert sample.status is (type(sample).Status.TRUNCATED if truncated else type(sample).Status.COMPLETED)
    assert last.finish == ("length" if habit(number) == "ramble" else "stop")
    assert not sample.remove_sample
