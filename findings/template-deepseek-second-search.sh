#!/usr/bin/env bash
# DeepSeek V3's first chat template notes in a variable that the first call, and the first result, were written, and never
# clears it. A conversation with one search is rendered well. The second search, a turn later, is rendered as if it were one
# more call of the first turn: without the assistant's marker, without the markers that open calls and results.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'transformers==5.23.0' 'jinja2==3.1.6'
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check --no-deps 'trl==1.16.0'  # carries the templates
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.util import find_spec
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATES = Path(find_spec("trl").submodule_search_locations[0]) / "chat_templates"

BEGIN = {
    "assistant's turn": "<｜Assistant｜>",
    "list of calls": "<｜tool▁calls▁begin｜>",
    "list of results": "<｜tool▁outputs▁begin｜>",
}
END = {"list of calls": "<｜tool▁calls▁end｜>", "call": "<｜tool▁call▁end｜>", "result": "<｜tool▁output▁end｜>"}


def search(number):
    function = {"name": "search", "arguments": '{"query": "question %d"}' % number}
    call = {"id": f"call_000{number}", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": f"result {number}"},
    ]


template = (TEMPLATES / "deepseekv3.jinja").read_text()
messages = [{"role": "user", "content": "Q"}, *search(1), *search(2)]
text = render_jinja_template([messages], chat_template=template, bos_token="")[0][0]
second = text[text.index("result 1") :]
print("title:    DeepSeek V3: the second search of a conversation is rendered without the markers that begin it")
print("versions: transformers 5.23.0, jinja2 3.1.6, DeepSeek V3's template as collected in trl 1.16.0")
print("expected: two searches have two assistant's turns, two lists of calls and two lists of results")
for line in text.splitlines():
    print(f"seen:     {line}")
opened = {name: text.count(marker) for name, marker in BEGIN.items()}
closed = {name: text.count(marker) for name, marker in END.items()}
print(f"          begun: {opened}; ended: {closed}")
if set(opened.values()) != {1} or closed != {"list of calls": 2, "call": 2, "result": 2}:
    raise SystemExit("CHANGED: the template begins every turn")
PYTHON
