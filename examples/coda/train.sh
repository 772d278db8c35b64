#!/usr/bin/env bash
# Trains Qwen2.5-3B as planner and executor (CoDA): GRPO with PECO's reward on four GPUs.
#
#   ./train.sh                                 needs a retrieval server; ./retrieval_launch.sh starts one
#   ./train.sh --dry-run                       prints the command
#   USE_RED=1 ./train.sh                       demonstrations mixed in (RED); generate_sft_data.py makes them
#   HUB_REPO=owner/run ./train.sh              pushes the newest two checkpoints, and goes on from there on a new machine
#   ./train.sh --num-rollout 500               further arguments go to slime and win
#
# It goes on from the newest whole checkpoint in SAVE, or on the Hub. The first Ctrl-C or SIGTERM, or a file STOP in SAVE,
# ends it after the step under way, and saves it.
#
# Environment: that of ../search_r1/training.sh (docs/run-scripts.md) with the defaults below; USE_RED, SFT_DATA, HUB_REPO
# (and HF_TOKEN), KEEP_CHECKPOINTS; SLIME_SEARCH_… for the recipe and SLIME_SEARCH_RED__… for RED.
set -euo pipefail

own=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

DATA=${DATA:-data/coda}
SFT_DATA=${SFT_DATA:-$DATA/sft.parquet}
HF_CHECKPOINT=${HF_CHECKPOINT:-/root/Qwen2.5-3B}
SAVE=${SAVE:-${HF_CHECKPOINT}_coda}
SAVE_INTERVAL=${SAVE_INTERVAL:-50}

# shellcheck source=examples/search_r1/training.sh
source "$own/../search_r1/training.sh"
# shellcheck source=examples/coda/checkpoints.sh
source "$own/checkpoints.sh"

RUN_NAME=coda_$MODEL
RECIPE=generate_with_coda
PREPARE="slime-search prepare-data --format coda"
TRAIN=(python3 -m slime_search.hooks.stoppable "$SLIME_HOME/train.py")
DATA_ARGS=(
    --input-key prompt
    --label-key reward_model
    --apply-chat-template
    --rollout-temperature 1
)

if [[ ${USE_RED:-0} == 1 ]]; then
    # A step has one more rollout, which is the demonstrations. Megatron is told that 257 need not be a multiple of the
    # data-parallel ranks; slime makes up micro-batches by itself.
    ROLLOUT_ARGS+=(
        --rollout-function-path slime_search.hooks.red.rollout.generate_rollout
        --rollout-data-postprocess-path slime_search.hooks.red.weights.weigh
        --global-batch-size 257
        --decrease-batch-size-if-needed
    )
    GRPO_ARGS+=(
        --loss-type custom_loss
        --custom-loss-function-path slime_search.hooks.red.loss.red_loss
        --use-rollout-entropy
    )
    export SLIME_SEARCH_RED__SFT_DATA=${SLIME_SEARCH_RED__SFT_DATA:-$(realpath -m "$SFT_DATA")}
fi

also_check() {
    if [[ ${USE_RED:-0} == 1 ]]; then
        [[ -f $SLIME_SEARCH_RED__SFT_DATA ]] || stop "SFT_DATA: $SLIME_SEARCH_RED__SFT_DATA does not exist; make it with: python $own/generate_sft_data.py --output $SFT_DATA"
    fi
    look_after_checkpoints
}

export PYTHONPATH=$own${PYTHONPATH:+:$PYTHONPATH}
launch "$@"
