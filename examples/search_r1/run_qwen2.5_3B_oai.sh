#!/usr/bin/env bash
# Trains Qwen2.5-3B to search, with OpenAI tool calls (Search-R1): GRPO on four GPUs, engine and trainer on the same.
#
# Its data is made with: slime-search prepare-data --format chat
#
#   ./run_qwen2.5_3B_oai.sh                    needs a retrieval server; run_with_retrieval.sh starts it:
#   TRAIN_SCRIPT=./run_qwen2.5_3B_oai.sh ./run_with_retrieval.sh
#   ./run_qwen2.5_3B_oai.sh --dry-run          prints the command
#   USE_TIS=1 ./run_qwen2.5_3B_oai.sh          with truncated importance sampling
#   ./run_qwen2.5_3B_oai.sh --num-rollout 500  further arguments go to slime and win
#
# Environment: docs/run-scripts.md lists it, training.sh holds the defaults.
set -euo pipefail

# shellcheck source=examples/search_r1/training.sh
source "$(dirname "${BASH_SOURCE[0]}")/training.sh"

RUN_NAME=search-r1-tools_$MODEL
RECIPE=generate_with_search_oai
DATA_ARGS=(
    --input-key messages
    --tool-key tools
    --label-key label
    --rollout-temperature 0.8
)

launch "$@"
