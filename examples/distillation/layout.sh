# shellcheck shell=bash
# What both trainings of this folder have in common. Sourced by the scripts beside it, before ../search_r1/training.sh.

# shellcheck disable=SC2034 # read by training.sh
{
    MODEL=${MODEL:-qwen3-4B-Instruct-2507}
    HF_CHECKPOINT=${HF_CHECKPOINT:-/root/Qwen3-4B-Instruct-2507}
    DATA=${DATA:-data/asearcher}
    NUM_ROLLOUT=${NUM_ROLLOUT:-1000}
    MAX_CONTEXT_LEN=${MAX_CONTEXT_LEN:-16384}
    MAX_TOKENS_PER_GPU=${MAX_TOKENS_PER_GPU:-16384}
}

# After training.sh: the columns of prepare-data asearcher, and the length of a turn.
search_agent() {
    PREPARE="slime-search prepare-data asearcher"
    DATA_ARGS=(
        --input-key messages
        --tool-key tools
        --label-key label
        --rollout-temperature 1
    )
    ROLLOUT_ARGS+=(--rollout-max-response-len "${TURN_TOKENS:-1024}")
    ((${#EVAL_ARGS[@]} == 0)) || EVAL_ARGS+=(--eval-max-response-len "${TURN_TOKENS:-1024}")
    local folder
    folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    export PYTHONPATH=$folder${PYTHONPATH:+:$PYTHONPATH}
}
