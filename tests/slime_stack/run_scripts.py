"""The run scripts, and what slime has to understand of each. A new script is one more entry of SCRIPTS."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

EXAMPLES = Path(__file__).parents[2] / "examples"

_QWEN = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}
QWEN_3B = _QWEN | {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
}
QWEN_05B = _QWEN | {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
}
QWEN3_4B = _QWEN | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "head_dim": 128,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rope_theta": 5000000.0,
}

_EVERY = {
    "advantage_estimator": "grpo",
    "colocate": True,
    "rollout_batch_size": 32,
    "n_samples_per_prompt": 8,
    "global_batch_size": 256,
    "use_kl_loss": True,
    "kl_loss_coef": 0.001,
    "kl_loss_type": "low_var_kl",
    "eps_clip": 0.2,
    "eps_clip_high": 0.28,
    "lr": 1e-6,
    "use_tis": False,
    "custom_reward_post_process_path": "slime_search.hooks.groups.normalize_rewards",
    "custom_rollout_log_function_path": "slime_search.hooks.metrics.log_rollout",
    "custom_eval_rollout_log_function_path": "slime_search.hooks.metrics.log_eval",
}
_SEARCH_R1 = _EVERY | {
    "num_layers": 36,
    "world_size": 4,
    "tensor_model_parallel_size": 2,
    "rollout_num_gpus_per_engine": 2,
    "rollout_max_response_len": 512,
    "rollout_max_context_len": 8192,
    "sglang_mem_fraction_static": 0.7,
}
_WITH_TAGS = {
    "apply_chat_template": True,
    "input_key": "prompt",
    "label_key": "reward_model",
    "rollout_temperature": 1.0,
}
_WITH_TOOLS = {"apply_chat_template": False, "input_key": "messages", "label_key": "label", "tool_key": "tools"}

_DISTILLATION = (
    _EVERY
    | _WITH_TOOLS
    | {
        "num_layers": 36,
        "world_size": 4,
        "tensor_model_parallel_size": 2,
        "rollout_temperature": 1.0,
        "rollout_max_response_len": 1024,
        "eval_max_response_len": 1024,
        "rollout_max_context_len": 16384,
    }
)


class Script(NamedTuple):
    model: dict[str, Any]
    """The config.json of the model that it trains, as on the Hub."""
    expected: dict[str, Any]
    """Of slime's arguments."""


SCRIPTS = {
    "search_r1/run_qwen2.5_3B.sh": Script(
        QWEN_3B, _SEARCH_R1 | _WITH_TAGS | {"custom_generate_function_path": "generate_with_search.generate"}
    ),
    "search_r1/run_qwen2.5_3B_oai.sh": Script(
        QWEN_3B,
        _SEARCH_R1
        | _WITH_TOOLS
        | {"custom_generate_function_path": "generate_with_search_oai.generate", "rollout_temperature": 0.8},
    ),
    "thinker_searcher/train_hierarchical_grpo.sh": Script(
        QWEN_05B,
        _EVERY
        | _WITH_TAGS
        | {
            "custom_generate_function_path": "generate_with_thinker.generate",
            "num_layers": 24,
            "world_size": 1,
            "num_gpus_per_node": 1,
            "tensor_model_parallel_size": 1,
            "rollout_max_response_len": 300,
            "rollout_max_context_len": 2048,
            "sglang_mem_fraction_static": 0.5,
        },
    ),
    "coda/train.sh": Script(
        QWEN_3B, _SEARCH_R1 | _WITH_TAGS | {"custom_generate_function_path": "generate_with_coda.generate"}
    ),
    "distillation/train_search_grpo.sh": Script(
        QWEN3_4B, _DISTILLATION | {"custom_generate_function_path": "search_agent.generate", "use_opd": False}
    ),
    "distillation/train_search_distill.sh": Script(
        QWEN3_4B,
        _DISTILLATION
        | {
            "custom_generate_function_path": "search_agent_with_teacher.generate",
            "custom_reward_post_process_path": "slime_search.hooks.distillation.normalize_rewards",
            "rollout_data_postprocess_path": "slime_search.hooks.distillation.forget_unscored",
            "use_opd": True,
            "opd_type": "sglang",
            "opd_kl_coef": 0.05,
        },
    ),
}

_TELL = "import json, os, sys; print(json.dumps({'command': sys.argv[1:], 'environment': dict(os.environ)}))"
_OF_THE_SCRIPTS = ("WANDB", "USE_TIS", "RAY_ADDRESS", "CUDA_", "MODEL", "SGLANG_CONFIG")


class Home:
    """A user's folders: a model, its reference checkpoint and data; and a python3 that tells how it was called."""

    def __init__(self, folder: Path, script: str) -> None:
        for name in ("hf_torch_dist", "hf", "data/test", "bin"):
            (folder / name).mkdir(parents=True)
        for name in ("data/train.parquet", "data/test/nq.parquet", "data/test/hotpotqa.parquet"):
            (folder / name).touch()
        (folder / "hf/config.json").write_text(json.dumps(SCRIPTS[script].model))
        for name, body in {"python3": f'exec {sys.executable} -ISc "{_TELL}" "$@"', "nvidia-smi": "true"}.items():
            (folder / "bin" / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
            (folder / "bin" / name).chmod(0o755)
        self.folder = folder
        self._script = script
        plain = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_SCRIPTS)}
        paths = {"HF_CHECKPOINT": "hf", "DATA": "data", "SAVE": "saved"}
        self._environment = plain | {name: str(folder / path) for name, path in paths.items()}
        self._environment["PATH"] = f"{folder}/bin:{plain['PATH']}"

    def call(self, *options: str, script: str = "", **variables: str) -> dict[str, Any]:
        """How the script, or another one, calls Python: the ``command`` from slime's script on, and ``environment``."""
        told = json.loads(self._output(script or self._script, *options, **variables))
        return {"command": _from_slimes_script(told["command"]), "environment": told["environment"]}

    def printed(self) -> list[str]:
        """The same command, as the dry run prints it."""
        return _from_slimes_script(shlex.split(self._output(self._script, "--dry-run")))

    def _output(self, script: str, *options: str, **variables: str) -> str:
        done = subprocess.run(
            [EXAMPLES / script, *options],
            env=self._environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _from_slimes_script(command: list[str]) -> list[str]:
    return command[next(place for place, word in enumerate(command) if word.endswith(".py")) :]
