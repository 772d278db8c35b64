#!/usr/bin/env bash
# The cold start, and the baseline of RED: supervised training on demonstrations, on slime's SFT path.
#
#   ./train_sft.sh                     no retrieval server and no engine; SFT_DATA from generate_sft_data.py
#   ./train_sft.sh --dry-run           prints the command
#   HF_CHECKPOINT=/root/Qwen2.5-3B_coda_sft/hf_N ./train.sh             then goes on by reinforcement learning (with its
#                                      own REF_LOAD, which ../search_r1/convert_model.sh makes of it)
#
# Environment: that of train.sh; NUM_EPOCHS, LR.
set -euo pipefail

own=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

DATA=${DATA:-data/coda}
SFT_DATA=${SFT_DATA:-$DATA/sft.parquet}
HF_CHECKPOINT=${HF_CHECKPOINT:-/root/Qwen2.5-3B}
SAVE=${SAVE:-${HF_CHECKPOINT}_coda_sft}
LR=${LR:-1e-5}

# shellcheck source=examples/search_r1/training.sh
source "$own/../search_r1/training.sh"
# shellcheck source=examples/coda/checkpoints.sh
source "$own/checkpoints.sh"

RUN_NAME=coda-sft_$MODEL
RECIPE=generate_with_coda
PROMPT_DATA=$SFT_DATA
PREPARE="python $own/generate_sft_data.py"
TRAIN=(python3 -m slime_search.hooks.stoppable "$SLIME_HOME/train.py")
DATA_ARGS=(--input-key prompt --metadata-key metadata)
# slime's own SFT rollout masks by role, and would train on what tools wrote. The loss is a mean over all tokens.
ROLLOUT_ARGS=(
    --rollout-function-path slime_search.hooks.sft_rollout.generate_rollout
    --prompt-data "$SFT_DATA"
    --rollout-shuffle
    --num-epoch "${NUM_EPOCHS:-3}"
    --rollout-batch-size 128
    --n-samples-per-prompt 1
    --global-batch-size 128
    --balance-data
    --loss-type sft_loss
    --calculate-per-token-loss
    --disable-compute-advantages-and-returns
    --debug-train-only
)
EVAL_ARGS=()
GRPO_ARGS=()
OPTIMIZER_ARGS+=(--lr-decay-style cosine --min-lr "${MIN_LR:-1e-6}" --lr-warmup-fraction 0.1)

also_check() {
    look_after_checkpoints
}

export PYTHONPATH=$own${PYTHONPATH:+:$PYTHONPATH}
launch "$@"
