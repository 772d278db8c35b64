#!/usr/bin/env bash
# Converts a Hugging Face model to the checkpoint that Megatron starts from: once, before the first training.
#
#   ./convert_model.sh
#   MODEL=qwen2.5-7B HF_CHECKPOINT=/models/Qwen2.5-7B ./convert_model.sh
#
# Environment: SLIME_HOME, MEGATRON_HOME, MODEL (a file of slime's scripts/models), HF_CHECKPOINT, REF_LOAD.
set -euo pipefail

# shellcheck source=examples/search_r1/training.sh
source "$(dirname "${BASH_SOURCE[0]}")/training.sh"

[[ ! -e $REF_LOAD ]] || stop "REF_LOAD: $REF_LOAD exists already; remove it or name another folder"
[[ -f $HF_CHECKPOINT/config.json ]] || stop "HF_CHECKPOINT: $HF_CHECKPOINT has no config.json; hf download the model there"
need_slime
# shellcheck source=/dev/null
source "$SLIME_HOME/scripts/models/$MODEL.sh"

export PYTHONPATH=$SLIME_HOME:$MEGATRON_HOME${PYTHONPATH:+:$PYTHONPATH}
exec python3 "$SLIME_HOME/tools/convert_hf_to_torch_dist.py" "${MODEL_ARGS[@]}" \
    --hf-checkpoint "$HF_CHECKPOINT" --save "$REF_LOAD"
