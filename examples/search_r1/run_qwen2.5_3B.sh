#!/usr/bin/env bash
# Trains Qwen2.5-3B to search, with XML tags (Search-R1): GRPO on four GPUs, engine and trainer on the same ones.
#
#   ./run_qwen2.5_3B.sh                        needs a retrieval server; run_with_retrieval.sh starts both
#   ./run_qwen2.5_3B.sh --dry-run              prints the command
#   USE_TIS=1 ./run_qwen2.5_3B.sh              with truncated importance sampling
#   ./run_qwen2.5_3B.sh --num-rollout 500      further arguments go to slime and win
#
# Environment: docs/run-scripts.md lists it, training.sh holds the defaults.
set -euo pipefail

# shellcheck source=examples/search_r1/training.sh
source "$(dirname "${BASH_SOURCE[0]}")/training.sh"

RUN_NAME=search-r1_$MODEL
RECIPE=generate_with_search
DATA_ARGS=(
    --input-key prompt
    --label-key reward_model
    --apply-chat-template
    --rollout-temperature 1
)

launch "$@"
