#!/usr/bin/env bash
# Copies of a passage have equal scores, and a corpus has many. FAISS's flat inner-product search gives the first copy when
# one result is asked for and the last copies, in descending order, when more are: the best of two is not the best of one.
# By L2 distance the order is ascending for every k. A result cut to its first entry is thus not the result of k = 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'faiss-cpu==1.15.1' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import faiss
import numpy as np

copies = np.ones((10, 8), dtype=np.float32)


def order(index, k):
    index.add(copies)
    return index.search(copies[:1], k)[1][0].tolist()


print("title:    among equal scores FAISS gives the first row for k = 1 and the last rows for k = 2")
print("versions: faiss-cpu 1.15.1, numpy 2.4.6")
print("expected: one order of equal scores, so that the results for k = 1 begin those for k = 2")
seen = {}
for name, kind in (("inner product", faiss.IndexFlatIP), ("L2", faiss.IndexFlatL2)):
    seen[name] = [order(kind(8), k) for k in (1, 2, 3, 10)]
    print(f"seen:     {name:13} rows of ten equal vectors for k = 1, 2, 3, 10: {seen[name]}")
rows = list(range(10))
if seen["inner product"] != [[0], [1, 0], [2, 1, 0], rows[::-1]] or seen["L2"] != [[0], [0, 1], [0, 1, 2], rows]:
    raise SystemExit("CHANGED: equal scores come in another order")
PYTHON
