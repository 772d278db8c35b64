#!/usr/bin/env bash
# Terminal 1: the retrieval server over HotpotQA's own paragraphs, on the CPU. Further options go to the server.
#
#   ./launch_retrieval.sh                              e5 over data/hotpotqa_only/, on 127.0.0.1:8000
#   ./launch_retrieval.sh --dry-run                    prints the command
#   RETRIEVER_NAME=bm25 ./launch_retrieval.sh          no index and no encoder
#
# Environment: DATA, CORPUS_PATH, INDEX_PATH, RETRIEVER_NAME, RETRIEVER_MODEL, RETRIEVAL_SERVER_URL, PYTHON.
set -euo pipefail

own=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=examples/thinker_searcher/layout.sh
source "$own/layout.sh"

corpus=${CORPUS_PATH:-$DATA/corpus.jsonl}
index=${INDEX_PATH:-$DATA/faiss.index}
name=${RETRIEVER_NAME:-e5}

need() {
    [[ -e $2 ]] && return
    echo "$1: $2 does not exist; make it with: slime-search prepare-data hotpotqa-only --output $DATA" >&2
    exit 2
}

dry_run=0
if [[ ${1:-} == --dry-run ]]; then
    dry_run=1
    shift
fi
options=(--corpus_path "$corpus" --retriever_name "$name" --host "$(host_of "$RETRIEVAL_SERVER_URL")" --port "$(port_of "$RETRIEVAL_SERVER_URL")")
if [[ $name != bm25 ]]; then
    options+=(--index_path "$index" --retriever_model "${RETRIEVER_MODEL:-intfloat/e5-base-v2}")
fi
command=("${PYTHON:-python3}" -m slime_search.cli serve-retriever "${options[@]}" "$@")

if ((dry_run)); then
    printf '%q ' "${command[@]}"
    echo
    exit
fi
need CORPUS_PATH "$corpus"
[[ $name == bm25 ]] || need INDEX_PATH "$index"
exec "${command[@]}"
