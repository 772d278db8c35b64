#!/usr/bin/env bash
# An IVF index keeps the ids that its vectors were added with. `reconstruct_n(0, ntotal)` is how its vectors are had back, and
# it goes by id: where ids are no row numbers, it fills the rows whose number happens to be an id, leaves the others as they
# were, and says nothing. Here one vector in ten is given.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'faiss-cpu==1.15.1' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import faiss
import numpy as np

vectors = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
ids = np.arange(1000) * 10  # such as a corpus whose passages were numbered with gaps
index = faiss.index_factory(8, "IVF4,Flat")
index.train(vectors)
index.add_with_ids(vectors, ids)
given = np.full((index.ntotal, 8), np.nan, dtype=np.float32)
index.reconstruct_n(0, index.ntotal, given)
filled = ~np.isnan(given).any(axis=1)
print("title:    FAISS: vectors had back from an IVF index with ids of its own are mostly whatever was there before")
print("versions: faiss-cpu 1.15.1, numpy 2.4.6")
print("expected: the 1,000 vectors in some order, or an error")
print(f"seen:     IVF4,Flat fills {int(filled.sum())} of {len(given)} rows, without an error")
print(f"          row 10 holds the vector of id 10: {np.allclose(given[10], vectors[1])}")
if filled.sum() != 100 or not np.allclose(given[10], vectors[1]):
    raise SystemExit("CHANGED: reconstruct_n goes by rows, or refuses")
PYTHON
