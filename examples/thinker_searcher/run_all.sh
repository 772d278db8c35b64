#!/usr/bin/env bash
# Runs everything in one tmux session: windows retriever, engine (the frozen model), searcher and training.
#
#   ./run_all.sh                          start all, wait, exit with the training's code
#   ./run_all.sh --attach                 the same, and show the session (Ctrl-b d leaves it running)
#   ./run_all.sh --dry-run                check everything, print the commands, start nothing
#   ./run_all.sh --stop                   end a session that runs; the training saves the step under way first
#   ./run_all.sh -- --num-rollout 500     what follows "--" goes to the training script
#   TRAIN_GPUS=0 SEARCHER_GPU=1 ./run_all.sh                two GPUs; without it everything shares GPU 0
#
# Environment: SESSION_NAME, TRAIN_SCRIPT, SEARCHER_SCRIPT, DATA, CORPUS_PATH, INDEX_PATH, RETRIEVER_NAME, RETRIEVER_MODEL,
# RETRIEVER_OPTIONS, RETRIEVAL_SERVER_URL, RETRIEVAL_TIMEOUT, SEARCHER_SERVER_URL, SEARCHER_ENGINE_URL,
# SEARCHER_ENGINE_PORT, SEARCHER_TIMEOUT, STOP_TIMEOUT, LOG_DIR, PYTHON; and the variables of the scripts that it runs.
#
# On its end, Ctrl-C or a failure at any stage what it started is ended, and nothing else.
set -euo pipefail

own=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=examples/thinker_searcher/layout.sh
source "$own/layout.sh"

options=()
if [[ -z ${TRAIN_SCRIPT:-} ]]; then
    export TRAIN_SCRIPT=$own/train_hierarchical_grpo.sh
    options+=(--own-script)
fi
export SEARCHER_SCRIPT=${SEARCHER_SCRIPT:-$own/launch_searcher.sh}
export CORPUS_PATH=${CORPUS_PATH:-$DATA/corpus.jsonl} INDEX_PATH=${INDEX_PATH:-$DATA/faiss.index}
export DATA TRAIN_GPUS SEARCHER_GPU SEARCHER_CHECKPOINT SEARCHER_SERVER_URL RETRIEVAL_SERVER_URL

exec "${PYTHON:-python3}" -m slime_search.cli launch thinker-searcher "${options[@]}" "$@"
