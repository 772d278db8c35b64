#!/usr/bin/env bash
# Trains Qwen3-4B-Instruct-2507 to search, by GRPO and by what a teacher thinks of each token that it wrote.
#
# Its data is made with: slime-search prepare-data asearcher
#
#   ./start_teacher_server.sh &                     the teacher, on GPUs or a machine of its own
#   ./train_search_distill.sh                       needs it, and a retrieval server; run_with_retrieval.sh starts that:
#   TRAIN_SCRIPT=$PWD/train_search_distill.sh ../search_r1/run_with_retrieval.sh
#   ./train_search_distill.sh --dry-run             prints the command
#   OPD_KL_COEF=0.1 ./train_search_distill.sh       how much the teacher counts beside the task
#   PURE_DISTILLATION=1 ./train_search_distill.sh   the teacher alone; the task's reward is logged only
#   TEACHER_TOKENIZER=/root/Llama-3.3-70B-Instruct TEACHER_URL=http://host:8000 ./train_search_distill.sh
#                                                   a teacher with a tokenizer and a template of its own
#
# Environment: that of train_search_grpo.sh; and TEACHER_URL, TEACHER_TOKENIZER, OPD_KL_COEF, PURE_DISTILLATION, and
# SLIME_SEARCH_TEACHER__… for how the teacher is asked (docs/configuration.md).
set -euo pipefail

own=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=examples/distillation/layout.sh
source "$own/layout.sh"
SAVE=${SAVE:-${HF_CHECKPOINT}_distill}
# shellcheck source=examples/search_r1/training.sh
source "$own/../search_r1/training.sh"
search_agent

# The environment overrides the agent's dict, so what nobody asked for stays out of it.
if [[ -n ${TEACHER_URL:-} ]]; then
    export SLIME_SEARCH_TEACHER__URL=${SLIME_SEARCH_TEACHER__URL:-$TEACHER_URL}
fi
if [[ -n ${TEACHER_TOKENIZER:-} ]]; then
    export SLIME_SEARCH_TEACHER__TOKENIZER=${SLIME_SEARCH_TEACHER__TOKENIZER:-$TEACHER_TOKENIZER}
fi
post_process=normalize_rewards
[[ ${PURE_DISTILLATION:-0} == 0 ]] || post_process=no_task_reward
DISTILL_ARGS=(
    --use-opd
    --opd-type sglang
    --opd-kl-coef "${OPD_KL_COEF:-0.05}"
    --custom-reward-post-process-path "slime_search.hooks.distillation.$post_process"
    --rollout-data-postprocess-path slime_search.hooks.distillation.forget_unscored
)

also_check() {
    local url urls
    urls=$(python3 -c 'from search_agent_with_teacher import recipe; print(*recipe.config().teacher.urls)') ||
        stop "search_agent_with_teacher.py: its configuration can't be read, for the reason above"
    for url in $urls; do
        ask "$url/v1/models" SLIME_SEARCH_TEACHER__API_KEY ||
            stop "TEACHER_URL, or teacher.url of search_agent_with_teacher.py: $url/v1/models is not answered; start a teacher with $own/start_teacher_server.sh, or where it asks for a key, set SLIME_SEARCH_TEACHER__API_KEY"
    done
}

RUN_NAME=search-distill_$MODEL
RECIPE=search_agent_with_teacher
dry_run=()
if [[ ${1:-} == --dry-run ]]; then
    dry_run=(--dry-run)
    shift
fi
launch "${dry_run[@]}" "${DISTILL_ARGS[@]}" "$@"
