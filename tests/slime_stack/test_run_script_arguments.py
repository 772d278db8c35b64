"""The run scripts' commands through slime's own ``parse_args``, with Megatron's and SGLang's arguments.

``SLIME_HOME`` and ``MEGATRON_HOME`` name the checkouts. ``SLIME_PYTHON`` may name a Python that has all that slime's
``train.py`` imports; in this one, SGLang's own arguments are a stand-in.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
COMMON = {
    "advantage_estimator": "grpo",
    "colocate": True,
    "world_size": 4,
    "tensor_model_parallel_size": 2,
    "rollout_num_gpus_per_engine": 2,
    "num_layers": 36,
    "lr": 1e-6,
    "custom_reward_post_process_path": "slime_search.hooks.groups.normalize_rewards",
    "custom_rollout_log_function_path": "slime_search.hooks.metrics.log_rollout",
    "custom_eval_rollout_log_function_path": "slime_search.hooks.metrics.log_eval",
}
SEARCH_R1 = COMMON | {
    "rollout_batch_size": 32,
    "n_samples_per_prompt": 8,
    "global_batch_size": 256,
    "rollout_max_response_len": 512,
    "use_kl_loss": True,
    "kl_loss_coef": 0.001,
    "kl_loss_type": "low_var_kl",
    "eps_clip": 0.2,
    "eps_clip_high": 0.28,
    "use_tis": False,
    "sglang_mem_fraction_static": 0.7,
}
SCRIPTS: dict[str, dict[str, Any]] = {
    "search_r1/run_qwen2.5_3B.sh": SEARCH_R1
    | {
        "custom_generate_function_path": "generate_with_search.generate",
        "apply_chat_template": True,
        "input_key": "prompt",
        "label_key": "reward_model",
        "rollout_temperature": 1.0,
    },
    "search_r1/run_qwen2.5_3B_oai.sh": SEARCH_R1
    | {
        "custom_generate_function_path": "generate_with_search_oai.generate",
        "apply_chat_template": False,
        "input_key": "messages",
        "label_key": "label",
        "tool_key": "tools",
        "rollout_temperature": 0.8,
    },
}
"""Each script and what slime has to understand of it. A new script is one more entry."""

Call = dict[str, Any]
Answer = dict[str, Any]
Parse = Callable[[Call], Answer]

TELL = "import json, os, sys; print(json.dumps({'command': sys.argv[1:], 'environment': dict(os.environ)}))"

_OF_THE_SCRIPTS = ("WANDB", "USE_TIS", "RAY_ADDRESS", "CUDA_DEVICE_MAX_CONNECTIONS")

QWEN_3B = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}


@pytest.fixture(scope="module")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parse]:
    """slime's parser, which checks the model's config, folders and functions too."""
    megatron = os.environ.get("MEGATRON_HOME")
    if not megatron:
        pytest.skip("set MEGATRON_HOME to a checkout of Megatron-LM, at the commit in slime's docker/Dockerfile")
    log = tmp_path_factory.mktemp("parser") / "log"
    path = [megatron, os.environ["SLIME_HOME"], os.environ.get("PYTHONPATH", "")]
    python = os.environ.get("SLIME_PYTHON", sys.executable)
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [python, HERE / "argument_parser.py"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as parser,
    ):
        assert parser.stdin is not None and parser.stdout is not None
        asked, answered = parser.stdin, parser.stdout

        def answer(call: Call) -> Answer:
            asked.write(json.dumps(call) + "\n")
            asked.flush()
            line = answered.readline()
            assert line, f"the parser's process ended:\n{log.read_text()[-3000:]}"
            return dict(json.loads(line))

        yield answer
        asked.close()


class Home:
    """A user's folders: a model, its reference checkpoint and data; and a python3 that tells how it was called."""

    def __init__(self, folder: Path) -> None:
        for name in ("hf_torch_dist", "hf", "data/test", "bin"):
            (folder / name).mkdir(parents=True)
        for name in ("data/train.parquet", "data/test/nq.parquet", "data/test/hotpotqa.parquet"):
            (folder / name).touch()
        (folder / "hf/config.json").write_text(json.dumps(QWEN_3B))
        for name, body in {"python3": f'exec {sys.executable} -ISc "{TELL}" "$@"', "nvidia-smi": "true"}.items():
            (folder / "bin" / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
            (folder / "bin" / name).chmod(0o755)
        self.folder = folder
        plain = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_SCRIPTS)}
        paths = {"HF_CHECKPOINT": "hf", "DATA": "data", "SAVE": "saved"}
        self.environment = plain | {name: str(folder / path) for name, path in paths.items()}
        self.environment["PATH"] = f"{folder}/bin:{plain['PATH']}"

    def call(self, script: str, *options: str, **variables: str) -> Call:
        """How the script calls Python."""
        return dict(json.loads(self._output(script, *options, **variables)))

    def printed(self, script: str) -> list[str]:
        return shlex.split(self._output(script, "--dry-run"))[1:]

    def _output(self, script: str, *options: str, **variables: str) -> str:
        done = subprocess.run(
            [EXAMPLES / script, *options],
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def understood(answer: Answer) -> dict[str, Any]:
    assert "error" not in answer, answer["error"]
    assert answer["unknown"] == []
    return dict(answer["args"])


@pytest.mark.parametrize("script", SCRIPTS)
def test_slime_understands_every_option(parse: Parse, home: Home, script: str) -> None:
    call = home.call(script)
    assert call["command"] == home.printed(script)
    answer = parse(call)
    args = understood(answer)
    assert {name: args[name] for name in SCRIPTS[script]} == SCRIPTS[script]
    hooks = [name for name in SCRIPTS[script] if name.startswith("custom_")]
    assert set(hooks) <= set(answer["hooks"])
    assert args["ref_load"] == str(home.folder / "hf_torch_dist")


def test_an_option_that_nobody_knows_is_found(parse: Parse, home: Home) -> None:
    answer = parse(home.call("search_r1/run_qwen2.5_3B.sh", "--no-such-option", "--sglang-nor-this", "1"))
    assert answer["unknown"] == ["--no-such-option", "--sglang-nor-this"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_test_sets_are_evaluated(parse: Parse, home: Home, script: str) -> None:
    args = understood(parse(home.call(script, EVAL_INTERVAL="7")))
    tests = home.folder / "data/test"
    assert args["eval_interval"] == 7
    assert args["eval_prompt_data"] == ["hotpotqa", f"{tests}/hotpotqa.parquet", "nq", f"{tests}/nq.parquet"]
    assert args["eval_temperature"] == 0
    assert args["eval_max_context_len"] == 8192


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_test_sets_nothing_is_evaluated(parse: Parse, home: Home, script: str) -> None:
    for file in (home.folder / "data/test").iterdir():
        file.unlink()
    assert understood(parse(home.call(script)))["eval_interval"] is None


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_interrupted_run_goes_on_where_it_was(parse: Parse, home: Home, script: str) -> None:
    first = understood(parse(home.call(script)))
    assert (first["load"], first["finetune"], first["start_rollout_id"]) == (first["ref_load"], True, 0)
    saved = home.folder / "saved"
    saved.mkdir()
    (saved / "latest_checkpointed_iteration.txt").write_text("99")
    again = understood(parse(home.call(script)))
    assert (again["load"], again["finetune"], again["start_rollout_id"]) == (str(saved), False, None)
    assert not again["no_load_optim"]


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name.startswith("search_r1/")])
def test_tis_uses_slimes_own_config(parse: Parse, home: Home, script: str) -> None:
    answer = parse(home.call(script, USE_TIS="1"))
    args = understood(answer)
    assert args["use_tis"] is True
    assert "compute_mis_weights_with_cp" in answer["hooks"]["custom_tis_function_path"]
    assert args["tis_mode"]


def test_what_is_overridden(parse: Parse, home: Home) -> None:
    variables = {"TP": "1", "NUM_GPUS": "2", "LR": "2e-6", "WANDB_PROJECT": "p", "MAX_CONTEXT_LEN": "4096"}
    args = understood(parse(home.call("search_r1/run_qwen2.5_3B.sh", "--num-rollout", "5", **variables)))
    expected = {
        "tensor_model_parallel_size": 1,
        "world_size": 2,
        "rollout_num_gpus": 2,
        "lr": 2e-6,
        "num_rollout": 5,
        "use_wandb": True,
        "wandb_project": "p",
        "rollout_max_context_len": 4096,
    }
    assert {name: args[name] for name in expected} == expected


def test_the_conversions_own_parser_takes_its_command(parse: Parse, home: Home) -> None:
    args = understood(parse(home.call("search_r1/convert_model.sh", REF_LOAD=str(home.folder / "new"))))
    assert (args["hf_checkpoint"], args["save"]) == (str(home.folder / "hf"), str(home.folder / "new"))
    assert args["num_layers"] == QWEN_3B["num_hidden_layers"]
    assert args["pipeline_model_parallel_size"] == 1
