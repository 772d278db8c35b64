#!/usr/bin/env bash
# An index like "RaBitQ,RFlat" keeps one bit a dimension for the search and the full vectors to rescore with. One would take
# it to look at more candidates than are asked for. Its `k_factor` is 1: a search for three finds three by their bits and
# only puts these three in order. Recall is exactly that of the bits, for many times their memory, until k_factor is set.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'faiss-cpu==1.15.1' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import faiss
import numpy as np

random = np.random.default_rng(0)
vectors = random.standard_normal((20_000, 64)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
queries = vectors[:200] + 0.1 * random.standard_normal((200, 64)).astype(np.float32)
_, right = faiss.knn(queries, vectors, 3, metric=faiss.METRIC_INNER_PRODUCT)


def recall(index):
    _, found = index.search(queries, 3)
    return round(float(np.mean([len(set(a) & set(b)) / 3 for a, b in zip(found.tolist(), right.tolist())])), 3)


def built(description):
    index = faiss.index_factory(64, description, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return index


print("title:    a FAISS index with a refining stage finds nothing more than one without, until k_factor is raised")
print("versions: faiss-cpu 1.15.1, numpy 2.4.6")
print("expected: rescoring with the full vectors raises recall, since that is what they are kept for")
bits, refined = recall(built("RaBitQ")), built("RaBitQ,RFlat")
default = recall(refined)
refined.k_factor = 20
raised = recall(refined)
print(f"seen:     recall@3 of RaBitQ {bits}; of RaBitQ,RFlat as built {default}; with k_factor = 20 {raised}")
if not default == bits < raised - 0.2:
    raise SystemExit("CHANGED: the refining stage looks at more candidates by itself")
PYTHON
