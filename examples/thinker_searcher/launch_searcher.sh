#!/usr/bin/env bash
# Terminal 2: the frozen model (Qwen2.5-1.5B-Instruct) in SGLang, and the Searcher service in front of it.
#
#   ./launch_searcher.sh                               both; when one ends, the other is ended too
#   ./launch_searcher.sh --dry-run                     prints the commands
#   ./launch_searcher.sh --only engine                 one of them: engine or service
#   SEARCHER_ENGINE_URL=http://host:30000 ./launch_searcher.sh          an engine that runs elsewhere; none is started
#   SEARCHER_ENGINE_API=openai SEARCHER_ENGINE_URL=http://host:8080 …   one that speaks OpenAI's /v1/completions
#
# Environment: SEARCHER_CHECKPOINT, SEARCHER_GPU, SEARCHER_MEM_FRACTION, SEARCHER_ENGINE_PORT, SEARCHER_ENGINE_OPTIONS,
# SEARCHER_ENGINE_URL, SEARCHER_ENGINE_API, SEARCHER_ENGINE_KEY, SEARCHER_SERVER_URL, RETRIEVAL_SERVER_URL, LOG_DIR,
# PYTHON; and SLIME_SEARCH_… for how it searches (docs/configuration.md).
set -euo pipefail

own=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=examples/thinker_searcher/layout.sh
source "$own/layout.sh"

stop() {
    echo "$1" >&2
    exit 2
}

dry_run=0
only=
while (($#)); do
    case $1 in
        --dry-run) dry_run=1 ;;
        --only) only=${2:-} && shift ;;
        *) stop "$1: unknown; the options are --dry-run and --only engine|service" ;;
    esac
    shift
done
case $only in
    "" | engine | service) ;;
    *) stop "--only $only: choose engine or service" ;;
esac

python=${PYTHON:-python3}
engine_url=${SEARCHER_ENGINE_URL:-http://127.0.0.1:${SEARCHER_ENGINE_PORT:-30001}}
engine_url=$(server_url SEARCHER_ENGINE_URL "$engine_url" /v1) || exit 2
gpu=$(devices SEARCHER_GPU) || exit 2
read -ra engine_options <<<"${SEARCHER_ENGINE_OPTIONS:-}"
engine=(
    "$python" -m sglang.launch_server --model-path "$SEARCHER_CHECKPOINT" --host 127.0.0.1
    --port "$(port_of "$engine_url")" --mem-fraction-static "$SEARCHER_MEM_FRACTION" --cuda-graph-max-bs 16 "${engine_options[@]}"
)
service=(
    "$python" -m slime_search.cli serve-searcher --model "$SEARCHER_CHECKPOINT" --engine-url "$engine_url"
    --engine-api "${SEARCHER_ENGINE_API:-sglang}" --host "$(host_of "$SEARCHER_SERVER_URL")"
    --port "$(port_of "$SEARCHER_SERVER_URL")"
)
export SLIME_SEARCH_LOCAL__SEARCH_URL=${SLIME_SEARCH_LOCAL__SEARCH_URL:-$RETRIEVAL_SERVER_URL/retrieve}
starts_engine=0
[[ -n ${SEARCHER_ENGINE_URL:-} || $only == service ]] || starts_engine=1

if ((dry_run)); then
    if ((starts_engine)); then
        echo "CUDA_VISIBLE_DEVICES=$gpu $(printf '%q ' "${engine[@]}")"
    fi
    if [[ $only != engine ]]; then
        echo "SLIME_SEARCH_LOCAL__SEARCH_URL=$SLIME_SEARCH_LOCAL__SEARCH_URL $(printf '%q ' "${service[@]}")"
    fi
    exit
fi

if ((starts_engine)); then
    [[ -f $SEARCHER_CHECKPOINT/config.json ]] ||
        stop "SEARCHER_CHECKPOINT: $SEARCHER_CHECKPOINT has no config.json; hf download Qwen/Qwen2.5-1.5B-Instruct there"
    "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("sglang") is None)' ||
        stop "sglang is not installed for $python; run this in slime's image, or name an engine with SEARCHER_ENGINE_URL"
fi
case $only in
    engine)
        ((starts_engine)) || stop "--only engine: SEARCHER_ENGINE_URL names one that runs already"
        CUDA_VISIBLE_DEVICES=$gpu exec "${engine[@]}"
        ;;
    service) exec "${service[@]}" ;;
esac
((starts_engine)) || exec "${service[@]}"

# The service is ended first, so that it answers what is under way.
started=()
# shellcheck disable=SC2329 # called by a trap
end() {
    local child
    for child in "${started[@]}"; do
        kill "$child" 2>/dev/null || continue
        for _ in {1..300}; do
            kill -0 "$child" 2>/dev/null || continue 2
            sleep 0.1
        done
        kill -KILL "$child" 2>/dev/null || true
    done
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

log=${LOG_DIR:-logs}/searcher_engine_$(date +%Y%m%d_%H%M%S).log
mkdir -p "$(dirname "$log")"
echo "searcher's engine: log $log"
CUDA_VISIBLE_DEVICES=$gpu "${engine[@]}" >"$log" 2>&1 &
engine_pid=$!
"${service[@]}" &
started=("$!" "$engine_pid")
code=0
wait -n "${started[@]}" || code=$?
if ! kill -0 "$engine_pid" 2>/dev/null; then
    echo "the searcher's engine ended with code $code; the end of $log:" >&2
    tail -n 20 "$log" >&2
    exit 1
fi
exit "$code"
