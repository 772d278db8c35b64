#!/usr/bin/env bash
# USearch takes a batch of queries and gives a matrix of keys. Where fewer vectors than asked for can be found, the rest of a
# row is not marked by a key: it holds 0, which is the key of the first passage, beside a distance that is no number. FAISS has
# -1 there. How many entries count is said in a third array. For one query alone, the row is simply shorter.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'usearch==2.26.6' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from usearch.index import Index

vectors = np.eye(8, dtype=np.float32)
index = Index(ndim=8, metric="ip", dtype="f32")
index.add(np.array([7, 8, 9]), vectors[:3])  # there is no key 0
batch = index.search(vectors[1:3], 5)
alone = index.search(vectors[1], 5)
print("title:    USearch fills up a batch's missing results with key 0")
print("versions: usearch 2.26.6, numpy 2.4.6")
print("expected: every key in the matrix is a key of the index, or one that can't be, such as -1")
print(f"seen:     keys of two queries, five results each, from an index that holds 7, 8 and 9: {batch.keys.tolist()}")
print(f"          distances {batch.distances.tolist()}, counts {batch.counts.tolist()}; one query alone: {alone.keys}")
filled = [row[3:] for row in batch.keys.tolist()]
if filled != [[0, 0], [0, 0]] or not np.isnan(batch.distances[:, 3:]).all() or len(alone.keys) != 3:
    raise SystemExit("CHANGED: missing results are marked otherwise")
PYTHON
