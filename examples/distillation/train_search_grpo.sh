#!/usr/bin/env bash
# Trains Qwen3-4B-Instruct-2507 to search, by GRPO alone: the run that train_search_distill.sh is compared with.
#
# Its data is made with: slime-search prepare-data asearcher
#
#   ./train_search_grpo.sh                       needs a retrieval server; run_with_retrieval.sh starts it:
#   TRAIN_SCRIPT=$PWD/train_search_grpo.sh ../search_r1/run_with_retrieval.sh
#   ./train_search_grpo.sh --dry-run             prints the command
#   ./train_search_grpo.sh --num-rollout 500     further arguments go to slime and win
#
# Environment: that of ../search_r1/training.sh (docs/run-scripts.md), with the defaults in layout.sh; and SLIME_SEARCH_…
# for the agent.
set -euo pipefail

own=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=examples/distillation/layout.sh
source "$own/layout.sh"
# shellcheck source=examples/search_r1/training.sh
source "$own/../search_r1/training.sh"
search_agent

RUN_NAME=search-grpo_$MODEL
RECIPE=search_agent
launch "$@"
