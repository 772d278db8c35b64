"""slime's command line for a rehearsal: that of a run script, with the quickstart's settings and a CPU's."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from slime_search.local.stack import MAX_CONTEXT_TOKENS, TURN_TOKENS
from slime_search.rehearsal.folder import RehearsalFolder
from slime_search.rehearsal.recipes import Rehearsed
from slime_search.rehearsal.shape import megatron_arguments, read_config

SAMPLES_PER_PROMPT = 8
MICRO_BATCH_TOKENS = 8192
"""Packed into one forward pass, some fifty rollouts."""
LONGEST_RUN = 10_000
"""Steps. The same for every rehearsal, so that one can go on with more steps from a checkpoint of fewer."""
TEST_SET = "held-out"
ON_A_CPU = (
    "--spec slime_search.rehearsal.cpu.layer layer --transformer-impl local --distributed-backend gloo "
    "--use-cpu-initialization --no-create-attention-mask-in-dataloader --no-rope-fusion --no-persist-layer-norm "
    "--no-gradient-accumulation-fusion --no-masked-softmax-fusion --no-bias-swiglu-fusion --no-bias-dropout-fusion"
).split()
"""Instead of fused kernels of Megatron's and Transformer Engine's, their plain counterparts."""


@dataclass(frozen=True)
class Plan:
    """One training. ``ranks`` are trainers that share a batch (data parallelism)."""

    folder: RehearsalFolder
    recipe: Rehearsed
    steps: int
    seed: int
    engine_port: int
    router_port: int
    ranks: int = 1


def slime_arguments(plan: Plan, more: Sequence[str] = ()) -> list[str]:
    """Everything behind ``train.py``; ``more`` comes last, and wins."""
    return [
        *_cluster(plan),
        *megatron_arguments(read_config(plan.folder.policy)),
        *ON_A_CPU,
        *_checkpoints(plan.folder),
        *_rollouts(plan),
        *_evaluations(plan),
        *_learning(plan),
        *plan.recipe.hooks(),
        *_records(plan.folder),
        *more,
    ]


def as_script(module: str, arguments: Sequence[str]) -> str:
    """The command line as the text of a shell script, a flag and its values a line."""
    lines: list[list[str]] = [["python3", "train.py"]]
    for argument in arguments:
        if argument.startswith("--"):
            lines.append([argument])
        else:
            lines[-1].append(argument)
    head = f"#!/usr/bin/env bash\n# What a rehearsal gave slime; the doctor reads it.\nRECIPE={module}\n"
    return head + " \\\n    ".join(shlex.join(line) for line in lines) + "\n"


def _cluster(plan: Plan) -> list[str]:
    return [
        *("--actor-num-nodes", "1", "--actor-num-gpus-per-node", str(plan.ranks)),
        *("--num-gpus-per-node", str(plan.ranks)),
        *("--rollout-external-engine-addrs", f"127.0.0.1:{plan.engine_port}"),
        *("--sglang-router-ip", "127.0.0.1", "--sglang-router-port", str(plan.router_port)),
        *("--update-weight-transport", "disk", "--update-weight-disk-dir", str(plan.folder.weights)),
    ]


def _checkpoints(folder: RehearsalFolder) -> list[str]:
    return [
        *("--hf-checkpoint", str(folder.policy), "--ref-load", str(folder.policy)),
        *("--load", str(folder.checkpoints), "--save", str(folder.checkpoints)),
        *("--save-hf", f"{folder.checkpoints}/hf_{{rollout_id}}", "--save-interval", "1000"),
    ]


def _rollouts(plan: Plan) -> list[str]:
    preset = plan.recipe.preset
    return [
        *plan.recipe.columns(),
        *("--prompt-data", str(plan.folder.train_questions), "--rollout-shuffle"),
        *("--custom-config-path", str(plan.folder.config)),
        *("--rollout-seed", str(plan.seed), "--seed", str(1000 + plan.seed)),
        *("--num-rollout", str(plan.steps)),
        *("--rollout-batch-size", str(preset.prompts), "--n-samples-per-prompt", str(SAMPLES_PER_PROMPT)),
        *("--rollout-temperature", str(preset.temperature)),
        *("--rollout-max-response-len", str(TURN_TOKENS), "--rollout-max-context-len", str(MAX_CONTEXT_TOKENS)),
    ]


def _evaluations(plan: Plan) -> list[str]:
    preset = plan.recipe.preset
    return [
        *("--eval-prompt-data", TEST_SET, str(plan.folder.test_questions)),
        *("--eval-interval", str(preset.eval_every), "--n-samples-per-eval-prompt", "1"),
        *("--eval-temperature", str(preset.temperature), "--eval-max-response-len", str(TURN_TOKENS)),
    ]


def _learning(plan: Plan) -> list[str]:
    """As the quickstart's trainer: on-policy, no reference model, a loss that is a mean over tokens."""
    preset = plan.recipe.preset
    grpo = preset.grpo
    # RED's demonstrations are one more rollout.
    rollouts = preset.prompts * SAMPLES_PER_PROMPT + plan.recipe.red
    return [
        *("--advantage-estimator", "grpo", "--calculate-per-token-loss", "--entropy-coef", "0"),
        *("--eps-clip", str(grpo.clip_low), "--eps-clip-high", str(grpo.clip_high)),
        *("--global-batch-size", str(rollouts), "--balance-data"),
        *("--use-dynamic-batch-size", "--max-tokens-per-gpu", str(MICRO_BATCH_TOKENS)),
        *("--optimizer", "adam", "--lr", str(grpo.learning_rate), "--lr-decay-style", "constant"),
        # Megatron wants the warm-up to be shorter than the run, by this number of steps, which means nothing else here.
        *("--lr-decay-iters", str(LONGEST_RUN)),
        # Else it refuses a checkpoint of a run that was planned with another number of steps.
        "--override-opt_param-scheduler",
        *("--lr-warmup-iters", str(grpo.warmup_steps), "--clip-grad", str(grpo.max_grad_norm)),
        *("--weight-decay", "0", "--adam-beta1", "0.9", "--adam-beta2", "0.95"),
        *("--tensor-model-parallel-size", "1", "--attention-dropout", "0", "--hidden-dropout", "0"),
        *("--accumulate-allreduce-grads-in-fp32", "--attention-softmax-in-fp32"),
    ]


def _records(folder: RehearsalFolder) -> list[str]:
    return [
        *("--save-debug-rollout-data", f"{folder.dumps}/{{rollout_id}}.pt"),
        *("--use-tensorboard", "--tb-project-name", "rehearsal"),
    ]
