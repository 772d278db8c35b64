#!/usr/bin/env bash
# Terminal 3: trains the Thinker (Qwen2.5-0.5B-Instruct) by GRPO; only its own tokens are trained on.
#
#   ./train_hierarchical_grpo.sh                       needs retriever and Searcher; run_all.sh starts them all
#   ./train_hierarchical_grpo.sh --dry-run             prints the command
#   ./train_hierarchical_grpo.sh --num-rollout 500     further arguments go to slime and win
#   LOAD=/ckpt/other ./train_hierarchical_grpo.sh      goes on from another run's checkpoint; from its own it does anyway
#   SGLANG_CONFIG=two_models.yaml ./train_hierarchical_grpo.sh          the Searcher on slime's second model, no service
#
# The first Ctrl-C or SIGTERM, or a file STOP in SAVE, ends the training after the step under way, and saves it.
#
# Environment: that of ../search_r1/training.sh (docs/run-scripts.md), with the defaults below and in layout.sh; and
# TRAIN_GPUS, SEARCHER_GPU, SEARCHER_SERVER_URL, SEARCHER_CHECKPOINT, SGLANG_CONFIG, TURN_TOKENS; and SLIME_SEARCH_….
set -euo pipefail

own=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=examples/thinker_searcher/layout.sh
source "$own/layout.sh"

MODEL=${MODEL:-qwen2.5-0.5B}
HF_CHECKPOINT=${HF_CHECKPOINT:-/root/Qwen2.5-0.5B-Instruct}
SAVE=${SAVE:-${HF_CHECKPOINT}_thinker}
NUM_ROLLOUT=${NUM_ROLLOUT:-1000}
MAX_CONTEXT_LEN=${MAX_CONTEXT_LEN:-2048}
TP=${TP:-1}
commas=${TRAIN_GPUS//[^,]/}
NUM_GPUS=$((${#commas} + 1))

# shellcheck source=examples/search_r1/training.sh
source "$own/../search_r1/training.sh"

RUN_NAME=thinker-searcher_$MODEL
RECIPE=generate_with_thinker
PREPARE="slime-search prepare-data hotpotqa-only"
TRAIN=(python3 -m slime_search.hooks.stoppable "$SLIME_HOME/train.py")
DATA_ARGS=(
    --input-key prompt
    --label-key reward_model
    --apply-chat-template
    --rollout-temperature 1
)
ROLLOUT_ARGS+=(--rollout-max-response-len "${TURN_TOKENS:-300}")
((${#EVAL_ARGS[@]} == 0)) || EVAL_ARGS+=(--eval-max-response-len "${TURN_TOKENS:-300}")

training_gpus=$(devices TRAIN_GPUS) || exit 2
export SLIME_SEARCH_SEARCHER_URL=${SLIME_SEARCH_SEARCHER_URL:-$SEARCHER_SERVER_URL/search}
if [[ -n ${SGLANG_CONFIG:-} ]]; then
    # The Searcher's GPU is slime's, too, and beside the training's.
    searcher_gpu=$(devices SEARCHER_GPU) || exit 2
    export CUDA_VISIBLE_DEVICES=$training_gpus,$searcher_gpu
    export SLIME_SEARCH_SEARCHER_MODEL=searcher SLIME_SEARCH_SEARCHER_CHECKPOINT=$SEARCHER_CHECKPOINT
    CLUSTER_ARGS+=(--rollout-num-gpus "$((NUM_GPUS + 1))" --num-gpus-per-node "$((NUM_GPUS + 1))")
    SGLANG_ARGS+=(--sglang-config "$SGLANG_CONFIG")
else
    export CUDA_VISIBLE_DEVICES=$training_gpus
    CLUSTER_ARGS+=(--num-gpus-per-node "$NUM_GPUS")
fi

also_check() {
    if [[ -n ${SGLANG_CONFIG:-} ]]; then
        [[ -f $SGLANG_CONFIG ]] || stop "SGLANG_CONFIG: $SGLANG_CONFIG does not exist; $own/two_models.yaml is one to begin with"
        [[ ,$TRAIN_GPUS, != *,$SEARCHER_GPU,* ]] || stop "SEARCHER_GPU: slime's second model has a GPU of its own; TRAIN_GPUS is $TRAIN_GPUS, so set SEARCHER_GPU to another one"
    else
        ask "$SEARCHER_SERVER_URL/ready" ||
            stop "SEARCHER_SERVER_URL: $SEARCHER_SERVER_URL is not ready; start it with $own/launch_searcher.sh"
    fi
}

export PYTHONPATH=$own${PYTHONPATH:+:$PYTHONPATH}
launch "$@"
