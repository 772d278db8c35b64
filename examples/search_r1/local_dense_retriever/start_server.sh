#!/usr/bin/env bash
# Starts the retrieval server over what download.py has fetched. Further options go to the server:
#
#   ./start_server.sh                                   e5 over data/, on 127.0.0.1:8000
#   ./start_server.sh --faiss_gpu                       the index on all visible GPUs
#   RETRIEVER_NAME=bm25 ./start_server.sh               no index and no encoder
#   INDEX_PATH=data/e5-lean ./start_server.sh           a lean index of `slime-search build-index`
#
# Environment: DATA_DIR, INDEX_PATH, CORPUS_PATH, RETRIEVER_NAME, RETRIEVER_MODEL, TOPK, HOST, PORT, PYTHON.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=${DATA_DIR:-$here/data}
corpus=${CORPUS_PATH:-$data/wiki-18.jsonl}
index=${INDEX_PATH:-$data/e5_Flat.index}
name=${RETRIEVER_NAME:-e5}

[[ -e $corpus || ! -e $corpus.gz ]] || corpus=$corpus.gz

need() {
    [[ -e $2 ]] && return
    echo "$1: $2 does not exist; fetch it with: python $here/download.py --save_path $data" >&2
    echo "or name another one: $1=... $0" >&2
    exit 1
}

options=(--corpus_path "$corpus" --retriever_name "$name")
need CORPUS_PATH "$corpus"
if [[ $name != bm25 ]]; then
    need INDEX_PATH "$index"
    options+=(--index_path "$index" --retriever_model "${RETRIEVER_MODEL:-intfloat/e5-base-v2}")
fi

exec "${PYTHON:-python3}" "$here/retrieval_server.py" "${options[@]}" \
    --topk "${TOPK:-3}" --host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" "$@"
