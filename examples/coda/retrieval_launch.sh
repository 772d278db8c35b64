#!/usr/bin/env bash
# The retrieval server over Wikipedia 2018, as Search-R1's: for train.sh, generate_sft_data.py and infer.py.
#
#   ./retrieval_launch.sh                              e5 over what download.py has fetched, on 127.0.0.1:8000
#   ./retrieval_launch.sh --faiss_gpu                  further options go to the server
#   RETRIEVER_NAME=bm25 ./retrieval_launch.sh          no index and no encoder
#
# Environment: that of ../search_r1/local_dense_retriever/start_server.sh.
set -euo pipefail

exec "$(dirname "${BASH_SOURCE[0]}")/../search_r1/local_dense_retriever/start_server.sh" "$@"
