# shellcheck shell=bash
# Checkpoints of both trainings: resumed from, pushed, deleted. Sourced after ../search_r1/training.sh, not run.

# The weights as a Hugging Face folder belong to a checkpoint: for infer.py, and for others.
CKPT_ARGS+=(--save-hf "$SAVE/hf_{rollout_id}")

# Called when everything is in place and nothing has started. The training takes this shell's process, by exec, and so
# the watcher ends with it.
look_after_checkpoints() {
    local hub=() found
    [[ -z ${HUB_REPO:-} ]] || hub=(--hub "$HUB_REPO")
    if [[ -z ${LOAD:-} ]]; then
        found=$(python3 -m slime_search.cli checkpoints resume "$SAVE" "${hub[@]}") || exit 2
        echo "resuming from checkpoint: $found" >&2
    fi
    python3 -m slime_search.cli checkpoints watch "$SAVE" "${hub[@]}" --keep "${KEEP_CHECKPOINTS:-2}" --until-pid $$ >&2 &
}
