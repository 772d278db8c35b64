# shellcheck shell=bash
# Which GPU does what, and how much of its memory each may have. Sourced by the scripts beside it, not run.
#
# One GPU (24 GB): the Searcher's engine stays on it, and the Thinker's engine and trainer take turns beside it.
# Two GPUs (TRAIN_GPUS=0 SEARCHER_GPU=1): each has its own.

TRAIN_GPUS=${TRAIN_GPUS:-0}
SEARCHER_GPU=${SEARCHER_GPU:-0}
SEARCHER_CHECKPOINT=${SEARCHER_CHECKPOINT:-/root/Qwen2.5-1.5B-Instruct}
SEARCHER_SERVER_URL=${SEARCHER_SERVER_URL:-http://127.0.0.1:8001}
RETRIEVAL_SERVER_URL=${RETRIEVAL_SERVER_URL:-http://127.0.0.1:8000}
DATA=${DATA:-data/hotpotqa_only}

if [[ ,$TRAIN_GPUS, == *,$SEARCHER_GPU,* && -z ${SGLANG_CONFIG:-} ]]; then
    SEARCHER_MEM_FRACTION=${SEARCHER_MEM_FRACTION:-0.25}
    SGLANG_MEM_FRACTION=${SGLANG_MEM_FRACTION:-0.5}
    MAX_TOKENS_PER_GPU=${MAX_TOKENS_PER_GPU:-2048}
else
    SEARCHER_MEM_FRACTION=${SEARCHER_MEM_FRACTION:-0.8}
    SGLANG_MEM_FRACTION=${SGLANG_MEM_FRACTION:-0.6}
    MAX_TOKENS_PER_GPU=${MAX_TOKENS_PER_GPU:-4096}
fi
