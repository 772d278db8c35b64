#!/usr/bin/env bash
# Runs a training with its retrieval server in one tmux session: window 0 the retriever, window 1 the training.
#
#   ./run_with_retrieval.sh               start both, wait, exit with the training's code
#   ./run_with_retrieval.sh --attach      the same, and show the session (Ctrl-b d leaves it running)
#   ./run_with_retrieval.sh --dry-run     check everything, print the commands, start nothing
#   ./run_with_retrieval.sh --stop        end a session that runs
#   ./run_with_retrieval.sh -- --num-rollout 500          what follows "--" goes to the training script
#
# Environment
#   SESSION_NAME          slime-search-r1          the tmux session; another name for a second run
#   TRAIN_SCRIPT          run_qwen2.5_3B.sh        what window 1 runs
#   INDEX_PATH            data/e5_Flat.index       in local_dense_retriever/, where download.py puts it
#   CORPUS_PATH           data/wiki-18.jsonl       the same; .jsonl.gz will do
#   RETRIEVER_NAME        e5                       bm25 needs neither index nor encoder
#   RETRIEVER_MODEL       intfloat/e5-base-v2
#   RETRIEVER_OPTIONS                              more options of the server, such as --faiss_gpu
#   RETRIEVAL_SERVER_URL  http://127.0.0.1:8000    where the server that is started listens; one on another machine is
#                                                  asked whether it is ready, and not started
#   RETRIEVAL_TIMEOUT     120                      seconds until the retriever has to be ready
#   STOP_TIMEOUT          30                       seconds that a process has to end before it is killed
#   LOG_DIR               logs                     retrieval_server_<time>.log, training_<time>.log
#   PYTHON                python3                  has slime-search installed
#
# On its end, Ctrl-C or a failure at any stage the retriever and the training that it started are ended, and nothing
# else.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=${DATA_DIR:-$here/local_dense_retriever/data}

options=()
if [[ -z ${TRAIN_SCRIPT:-} ]]; then
    export TRAIN_SCRIPT=$here/run_qwen2.5_3B.sh
    options+=(--own-script)
fi
if [[ -z ${CORPUS_PATH:-} ]]; then
    export CORPUS_PATH=$data/wiki-18.jsonl
    [[ -e $CORPUS_PATH || ! -e $CORPUS_PATH.gz ]] || CORPUS_PATH+=.gz
fi
export INDEX_PATH=${INDEX_PATH:-$data/e5_Flat.index}

exec "${PYTHON:-python3}" -m slime_search.cli launch search-r1 "${options[@]}" "$@"
