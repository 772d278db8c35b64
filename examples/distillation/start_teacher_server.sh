#!/usr/bin/env bash
# Serves the teacher (Qwen3-30B-A3B-Instruct-2507) on port 15555, and says when it is ready.
#
#   ./start_teacher_server.sh                        stays in the foreground; Ctrl-C ends it, and nothing else
#   ./start_teacher_server.sh --dry-run              prints the command
#   TEACHER_CHECKPOINT=/root/Qwen3-32B TEACHER_TP=4 ./start_teacher_server.sh
#   CUDA_VISIBLE_DEVICES=6,7 ./start_teacher_server.sh --context-length 32768     further arguments go to the server
#   TEACHER_ENGINE=vllm ./start_teacher_server.sh    vLLM instead of SGLang
#
# Environment: TEACHER_CHECKPOINT, TEACHER_PORT (15555), TEACHER_HOST (127.0.0.1; 0.0.0.0 for a training on another
# machine), TEACHER_TP (2), TEACHER_ENGINE (sglang), TEACHER_MEM_FRACTION (0.8), TEACHER_TIMEOUT (1800 seconds until it
# has to be ready), STOP_TIMEOUT (30), LOG_DIR (logs), PYTHON (python3).
#
# Exits with the server's code; with 1 where it ends before it is ready, or is not in time; with 2 where something is
# missing.
set -euo pipefail

stop() {
    echo "$1" >&2
    exit 2
}

checkpoint=${TEACHER_CHECKPOINT:-/root/Qwen3-30B-A3B-Instruct-2507}
port=${TEACHER_PORT:-15555}
host=${TEACHER_HOST:-127.0.0.1}
tp=${TEACHER_TP:-2}
engine=${TEACHER_ENGINE:-sglang}
memory=${TEACHER_MEM_FRACTION:-0.8}
python=${PYTHON:-python3}

dry_run=0
if [[ ${1:-} == --dry-run ]]; then
    dry_run=1
    shift
fi
case $engine in
    sglang)
        # Log-probabilities of long prompts need room for logits; smaller chunks need less of it.
        command=(
            "$python" -m sglang.launch_server --model-path "$checkpoint" --host "$host" --port "$port" --tp "$tp"
            --mem-fraction-static "$memory" --chunked-prefill-size 4096 "$@"
        )
        ready=model_info
        ;;
    vllm)
        command=(
            "$python" -m vllm.entrypoints.openai.api_server --model "$checkpoint" --host "$host" --port "$port"
            --tensor-parallel-size "$tp" --gpu-memory-utilization "$memory" "$@"
        )
        ready=v1/models
        ;;
    *) stop "TEACHER_ENGINE: $engine is neither sglang nor vllm" ;;
esac
if ((dry_run)); then
    printf '%q ' "${command[@]}"
    echo
    exit
fi

# A server that was started with --api-key refuses who has no key, once it is ready. The package is this checkout's: the
# teacher's Python need not have it installed.
package=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
answers() {
    PYTHONPATH=$package "$python" -m slime_search.transport.readiness --without-token "$1" >/dev/null 2>&1
}
case $host in
    0.0.0.0 | ::) url=http://127.0.0.1:$port/$ready ;;
    *:*) url=http://[$host]:$port/$ready ;;
    *) url=http://$host:$port/$ready ;;
esac

[[ -f $checkpoint/config.json ]] ||
    stop "TEACHER_CHECKPOINT: $checkpoint has no config.json; hf download Qwen/$(basename "$checkpoint") there"
"$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)' "$engine" ||
    stop "$engine is not installed for $python; run this in slime's image, or set PYTHON"
PYTHONPATH=$package "$python" -c 'import slime_search.transport.readiness' ||
    stop "PYTHON: $python can't ask whether the server is ready, for the reason above; slime-search needs Python 3.11 or newer"
"$python" -c 'import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", int(sys.argv[1])))' "$port" 2>/dev/null ||
    stop "TEACHER_PORT: $port is taken; end what listens there, or set another one"

log=${LOG_DIR:-logs}/teacher_$(date +%Y%m%d_%H%M%S).log
mkdir -p "$(dirname "$log")"
# In a process group of its own, so that its workers can be ended with it.
set -m
"${command[@]}" >"$log" 2>&1 &
server=$!
set +m
# shellcheck disable=SC2329 # called by a trap
end() {
    kill -TERM -- "-$server" 2>/dev/null || return 0
    for ((waited = 0; waited < 10 * ${STOP_TIMEOUT:-30}; waited++)); do
        kill -0 -- "-$server" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL -- "-$server" 2>/dev/null || true
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

echo "teacher: starting, log $log"
deadline=$((SECONDS + ${TEACHER_TIMEOUT:-1800}))
until answers "$url"; do
    if ! kill -0 "$server" 2>/dev/null; then
        echo "teacher: ended before it was ready; the end of $log:" >&2
        tail -n 20 "$log" >&2
        exit 1
    fi
    if ((SECONDS >= deadline)); then
        echo "teacher: not ready after ${TEACHER_TIMEOUT:-1800} seconds; the end of $log:" >&2
        tail -n 20 "$log" >&2
        exit 1
    fi
    sleep 0.5
done
echo "teacher: ready at http://$host:$port"
code=0
wait "$server" || code=$?
echo "teacher: ended with code $code" >&2
exit "$code"
