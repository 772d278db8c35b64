#!/usr/bin/env bash
# A query none of whose words is in the corpus has no result in most search engines. bm25s returns k documents all the same,
# each with the score 0.0: the last ones of the corpus. An agent that is shown them reads the same irrelevant passages after
# every such query, and "nothing was found" never happens. Its default tokenizer makes such queries: it drops words of one
# letter and English stop words, so that "C or R?" has no word at all.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'bm25s==0.3.16' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import bm25s

DOCUMENTS = [
    "C is a programming language.",
    "R is a language for statistics.",
    "Paris is the capital of France.",
    "The Seine flows through Paris.",
    "Bananas are berries.",
]
index = bm25s.BM25()
index.index(bm25s.tokenize(DOCUMENTS, show_progress=False), show_progress=False)
print("title:    bm25s: a query that matches nothing gets the last documents of the corpus")
print("versions: bm25s 0.3.16, numpy 2.4.6")
print("expected: no results, or an error; and an equal score would favour the first documents")
seen = {}
for query in ("Where is Lisbon?", "C or R?", "Who?", "Paris"):
    words = bm25s.tokenize(query, return_ids=False, show_progress=False)
    rows, scores = index.retrieve(words, k=3, show_progress=False)
    seen[query] = (rows[0].tolist(), [round(float(score), 2) for score in scores[0]])
    print(f"seen:     {query:17} words {words[0]}: documents {seen[query][0]}, scores {seen[query][1]}")
nothing = ([4, 3, 2], [0.0, 0.0, 0.0])
if any(seen[query] != nothing for query in ("Where is Lisbon?", "C or R?", "Who?")) or seen["Paris"][1][2] != 0.0:
    raise SystemExit("CHANGED: documents without a word of the query are left out, or others come first")
PYTHON
