# shellcheck shell=bash
# What both runs of Search-R1 have in common: slime's arguments, and how training starts. Sourced, not run.
#
# A script that sources it sets RUN_NAME, RECIPE (the module with the hooks) and DATA_ARGS, and ends with: launch "$@"
# Before that it may change any of the arrays, TRAIN (what takes slime's arguments) and PREPARE (what makes the data), and
# define also_check, for what else has to be there.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
package=$(cd "$here/../.." && pwd)
# shellcheck source=examples/search_r1/urls.sh
source "$here/urls.sh"

SLIME_HOME=${SLIME_HOME:-/root/slime}
MEGATRON_HOME=${MEGATRON_HOME:-/root/Megatron-LM}
MODEL=${MODEL:-qwen2.5-3B}
HF_CHECKPOINT=${HF_CHECKPOINT:-/root/Qwen2.5-3B}
REF_LOAD=${REF_LOAD:-${HF_CHECKPOINT}_torch_dist}
SAVE=${SAVE:-${HF_CHECKPOINT}_slime}
NUM_GPUS=${NUM_GPUS:-4}
TP=${TP:-2}
DATA=${DATA:-data}
PROMPT_DATA=$DATA/train.parquet
TRAIN=(python3 "$SLIME_HOME/train.py")
PREPARE="slime-search prepare-data"

stop() {
    echo "$1" >&2
    exit 2
}

# Before anything of slime's is read.
need_slime() {
    [[ -d $SLIME_HOME/scripts/models ]] || stop "SLIME_HOME: $SLIME_HOME has no scripts/models; name a checkout of slime"
    [[ -f $SLIME_HOME/scripts/models/$MODEL.sh ]] || stop "MODEL: $MODEL is none of $SLIME_HOME/scripts/models"
}

# Where a run was interrupted, it goes on from SAVE by itself: slime loads what is there, else the reference.
CKPT_ARGS=(
    --hf-checkpoint "$HF_CHECKPOINT"
    --ref-load "$REF_LOAD"
    --load "${LOAD:-$SAVE}"
    --save "$SAVE"
    --save-interval "${SAVE_INTERVAL:-100}"
)

ROLLOUT_ARGS=(
    --prompt-data "$PROMPT_DATA"
    --rollout-shuffle
    --num-rollout "${NUM_ROLLOUT:-3000}"
    --rollout-batch-size 32
    --n-samples-per-prompt 8
    --global-batch-size 256
    --balance-data
    --rollout-max-response-len 512
    --rollout-max-context-len "${MAX_CONTEXT_LEN:-8192}"
)

# The test sets that prepare-data has made, each with its name, where there are any.
EVAL_ARGS=()
for file in "$DATA"/test/*.parquet; do
    [[ ! -e $file ]] || EVAL_ARGS+=("$(basename "$file" .parquet)" "$file")
done
if ((${#EVAL_ARGS[@]})); then
    EVAL_ARGS=(
        --eval-prompt-data "${EVAL_ARGS[@]}"
        --eval-interval "${EVAL_INTERVAL:-50}"
        --n-samples-per-eval-prompt 1
        --eval-temperature 0
        --eval-max-response-len 512
    )
fi

GRPO_ARGS=(
    --advantage-estimator grpo
    --use-kl-loss
    --kl-loss-coef 0.001
    --kl-loss-type low_var_kl
    --entropy-coef 0.00
    --eps-clip 0.2
    --eps-clip-high 0.28
)
if [[ ${USE_TIS:-0} == 1 ]]; then
    # The config says how the ratios are masked; it is slime's own. slime takes one such file.
    [[ -z ${CUSTOM_CONFIG:-} ]] || stop "CUSTOM_CONFIG: with USE_TIS=1 its keys go into a copy of mis.yaml, named by TIS_CONFIG"
    GRPO_ARGS+=(
        --use-tis
        --custom-config-path "${TIS_CONFIG:-$SLIME_HOME/examples/train_infer_mismatch_helper/mis.yaml}"
        --custom-tis-function-path examples.train_infer_mismatch_helper.mis.compute_mis_weights_with_cp
    )
elif [[ -n ${CUSTOM_CONFIG:-} ]]; then
    GRPO_ARGS+=(--custom-config-path "$CUSTOM_CONFIG")
fi

OPTIMIZER_ARGS=(
    --optimizer adam
    --lr "${LR:-1e-6}"
    --lr-decay-style constant
    --weight-decay 0.01
    --adam-beta1 0.9
    --adam-beta2 0.98
)

PERF_ARGS=(
    --tensor-model-parallel-size "$TP"
    --sequence-parallel
    --pipeline-model-parallel-size 1
    --context-parallel-size 1
    --expert-model-parallel-size 1
    --expert-tensor-parallel-size 1
    --recompute-granularity full
    --recompute-method uniform
    --recompute-num-layers 1
    --use-dynamic-batch-size
    --max-tokens-per-gpu "${MAX_TOKENS_PER_GPU:-9216}"
    --attention-dropout 0.0
    --hidden-dropout 0.0
    --accumulate-allreduce-grads-in-fp32
    --attention-softmax-in-fp32
    --attention-backend flash
)

SGLANG_ARGS=(
    --rollout-num-gpus-per-engine "$TP"
    --sglang-mem-fraction-static "${SGLANG_MEM_FRACTION:-0.7}"
)

CLUSTER_ARGS=(
    --actor-num-nodes 1
    --actor-num-gpus-per-node "$NUM_GPUS"
    --rollout-num-gpus "$NUM_GPUS"
    --colocate
)

check() {
    [[ -f $SLIME_HOME/train.py ]] || stop "SLIME_HOME: $SLIME_HOME has no train.py; name a checkout of slime"
    [[ -d $MEGATRON_HOME ]] || stop "MEGATRON_HOME: $MEGATRON_HOME does not exist; name a checkout of Megatron-LM"
    [[ -f $HF_CHECKPOINT/config.json ]] || stop "HF_CHECKPOINT: $HF_CHECKPOINT has no config.json; hf download the model there"
    [[ -e $REF_LOAD ]] || stop "REF_LOAD: $REF_LOAD does not exist; make it with $here/convert_model.sh"
    # Where there is none, slime starts over from the reference and says nothing.
    holds_checkpoint "${LOAD:-}" || stop "LOAD: $LOAD holds no checkpoint; name the SAVE of a run that has saved one, or unset it"
    [[ -f $PROMPT_DATA ]] || stop "DATA: $PROMPT_DATA does not exist; make it with: $PREPARE --output $DATA"
    command -v nvidia-smi >/dev/null || stop "no GPU: training can't start (nvidia-smi is not here)"
    also_check
}

# holds_checkpoint FOLDER: whether slime finds something to load there; it is asked for nothing where none is named.
holds_checkpoint() {
    [[ -z $1 || -f $1/latest_checkpointed_iteration.txt || -f $1/config.json || $(basename "$1") == iter_[0-9]* && -d $1 ]]
}

also_check() {
    :
}

# ask URL [TOKEN_VARIABLE]: whether a server answers. On this machine no proxy is asked.
ask() {
    python3 -m slime_search.transport.readiness "$1" ${2:+--token-variable "$2"} >&2
}

# The recipe asks RETRIEVAL_SERVER_URL, where one is named and SLIME_SEARCH_LOCAL__SEARCH_URL is not.
if [[ -n ${RETRIEVAL_SERVER_URL:-} ]]; then
    RETRIEVAL_SERVER_URL=$(server_url RETRIEVAL_SERVER_URL "$RETRIEVAL_SERVER_URL" /retrieve) || exit 2
    export RETRIEVAL_SERVER_URL
    export SLIME_SEARCH_LOCAL__SEARCH_URL=${SLIME_SEARCH_LOCAL__SEARCH_URL:-$RETRIEVAL_SERVER_URL/retrieve}
fi

# slime asks its engines by HTTP, and would go through the environment's proxy for the servers of this machine, too.
if [[ -n ${http_proxy:-}${HTTP_PROXY:-}${all_proxy:-}${ALL_PROXY:-} ]]; then
    own_addresses=$(hostname -I 2>/dev/null) || own_addresses=
    own_addresses="localhost 127.0.0.1 ::1 $(hostname) $own_addresses"
    no_proxy=${no_proxy:-${NO_PROXY:-}}
    for address in $own_addresses; do no_proxy+=${no_proxy:+,}$address; done
    export no_proxy NO_PROXY=$no_proxy
fi

# Runs as a job of the Ray cluster at RAY_ADDRESS. Else on one that runs on this machine, or where there is none on one of
# its own, which ends with the training.
launch() {
    local dry_run=0
    if [[ ${1:-} == --dry-run ]]; then
        dry_run=1
        shift
    fi
    need_slime
    # shellcheck source=/dev/null
    source "$SLIME_HOME/scripts/models/$MODEL.sh" || stop "MODEL: $SLIME_HOME/scripts/models/$MODEL.sh failed"
    local hooks=(
        --custom-generate-function-path "$RECIPE.generate"
        --custom-rm-path "$RECIPE.reward_func"
        --custom-reward-post-process-path slime_search.hooks.groups.normalize_rewards
        --custom-rollout-log-function-path slime_search.hooks.metrics.log_rollout
        --custom-eval-rollout-log-function-path slime_search.hooks.metrics.log_eval
    )
    local wandb=()
    if [[ -n ${WANDB_PROJECT:-} ]]; then
        # The key stays in the environment, as WANDB_API_KEY.
        wandb=(--use-wandb --wandb-project "$WANDB_PROJECT" --wandb-group "${WANDB_GROUP:-$RUN_NAME}")
    fi
    local command=(
        "${TRAIN[@]}" "${CLUSTER_ARGS[@]}" "${MODEL_ARGS[@]}" "${CKPT_ARGS[@]}" "${DATA_ARGS[@]}"
        "${ROLLOUT_ARGS[@]}" "${EVAL_ARGS[@]}" "${OPTIMIZER_ARGS[@]}" "${GRPO_ARGS[@]}" "${PERF_ARGS[@]}"
        "${SGLANG_ARGS[@]}" "${hooks[@]}" "${wandb[@]}" "$@"
    )
    # Megatron has an "examples" too, and TIS is in slime's.
    export PYTHONPATH=$SLIME_HOME:$MEGATRON_HOME:$package:$here${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONUNBUFFERED=1 CUDA_DEVICE_MAX_CONNECTIONS=1
    if [[ -n ${RAY_ADDRESS:-} ]]; then
        python3 -m slime_search.ops.launch.ray_job --check || exit 2
        command=(python3 -m slime_search.ops.launch.ray_job "${command[@]}")
    fi
    # Workers of a Ray that runs already get this environment, too.
    export RAY_RUNTIME_ENV_HOOK=${RAY_RUNTIME_ENV_HOOK:-slime_search.ops.launch.job_environment.runtime_env}
    if ((dry_run)); then
        printf '%q ' "${command[@]}"
        echo
        return
    fi
    check
    exec "${command[@]}"
}
