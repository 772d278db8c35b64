#!/usr/bin/env bash
# FAISS's flat search has two ways: one query at a time, or many at once as a matrix product, which is several times faster.
# Up to 1.13.2 it took the second from 20 queries on. In 1.15.1 that number is 128,000: a retrieval server that gathers
# queries into batches has lost the gain with an upgrade, and gets it back by setting one variable of the module.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/measure.py" <<'PYTHON'
import json
import time

import faiss
import numpy as np

faiss.omp_set_num_threads(1)
vectors = np.random.default_rng(0).standard_normal((40_000, 384)).astype(np.float32)
index = faiss.IndexFlatIP(384)
index.add(vectors)


def seconds():
    """CPU time of searching for 200 queries at once."""
    start = time.process_time()
    index.search(vectors[:200], 3)
    return round(time.process_time() - start, 2)


default = faiss.cvar.distance_compute_blas_threshold
one_by_one_or_not = seconds()
faiss.cvar.distance_compute_blas_threshold = 20
print(json.dumps({"threshold": default, "as installed": one_by_one_or_not, "with threshold 20": seconds()}))
PYTHON
for version in 1.13.2 1.15.1; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install -q --no-compile --disable-pip-version-check "faiss-cpu==$version" 'numpy==2.4.6'
  "$folder/$version/bin/python" "$folder/measure.py" >"$folder/$version.json"
done
echo "title:    FAISS's flat search no longer takes a batch of queries as one matrix product"
echo "versions: faiss-cpu 1.13.2 and 1.15.1, numpy 2.4.6"
echo "expected: a newer version searches for 200 queries at once as fast as an older one"
for version in 1.13.2 1.15.1; do
  echo "seen:     $version: smallest batch that is a matrix product, CPU seconds of 200 queries: $(cat "$folder/$version.json")"
done
if ! grep -q '"threshold": 20,' "$folder/1.13.2.json" || ! grep -q '"threshold": 128000,' "$folder/1.15.1.json"; then
  echo "CHANGED: the threshold is another"
  exit 1
fi
