# shellcheck shell=bash
# Which GPU does what, and how much of its memory each may have. Sourced by the scripts beside it, not run.
#
# One GPU (24 GB): the Searcher's engine stays on it, and the Thinker's engine and trainer take turns beside it.
# Two GPUs (TRAIN_GPUS=0 SEARCHER_GPU=1): each has its own.
#
# Numbers count the GPUs that CUDA_VISIBLE_DEVICES leaves: with CUDA_VISIBLE_DEVICES=4,5 GPU 0 is the machine's GPU 4.

# shellcheck source=examples/search_r1/urls.sh
source "$(dirname "${BASH_SOURCE[0]}")/../search_r1/urls.sh"

TRAIN_GPUS=${TRAIN_GPUS:-0}
SEARCHER_GPU=${SEARCHER_GPU:-0}
SEARCHER_CHECKPOINT=${SEARCHER_CHECKPOINT:-/root/Qwen2.5-1.5B-Instruct}
SEARCHER_SERVER_URL=$(server_url SEARCHER_SERVER_URL "${SEARCHER_SERVER_URL:-http://127.0.0.1:8001}" /search) || exit 2
RETRIEVAL_SERVER_URL=$(server_url RETRIEVAL_SERVER_URL "${RETRIEVAL_SERVER_URL:-http://127.0.0.1:8000}" /retrieve) || exit 2
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

# devices VARIABLE: the GPUs that the variable numbers, as CUDA_VISIBLE_DEVICES names them.
devices() {
    local visible number names=()
    [[ -n ${CUDA_VISIBLE_DEVICES+set} ]] || { printf '%s\n' "${!1}" && return; }
    IFS=, read -ra visible <<<"$CUDA_VISIBLE_DEVICES"
    for number in ${!1//,/ }; do
        [[ $number =~ ^[0-9]+$ && -n ${visible[10#$number]:-} ]] || {
            echo "$1: there is no GPU $number among CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES, which are numbered from 0" >&2
            return 2
        }
        names+=("${visible[10#$number]// /}")
    done
    (IFS=, && printf '%s\n' "${names[*]}")
}
