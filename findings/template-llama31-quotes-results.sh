#!/usr/bin/env bash
# Llama 3.1's and 3.2's chat templates turn a tool result into JSON if it is a mapping or iterable. In Jinja a string is
# iterable, so every plain result is quoted: its line breaks become the two characters backslash and n, its quotation marks
# get a backslash, and a passage of several lines reaches the model as one long line.
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

RESULT = 'Doc 1 "Paris"\nThe capital of France.\nDoc 2\nA town in Texas.'


def shown(family):
    """The tool's turn, as the model reads it."""
    call = {"id": "call_0001", "type": "function", "function": {"name": "search", "arguments": {"query": "Paris"}}}
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    messages.append({"role": "tool", "tool_call_id": "call_0001", "content": RESULT})
    template = (TEMPLATES / f"{family}.jinja").read_text()
    text = render_jinja_template([messages], chat_template=template, bos_token="")[0][0]
    return text[text.index("Doc 1") - 30 :]


print("title:    Llama 3.1 and 3.2 read a tool's plain text as a quoted JSON string")
print("versions: transformers 5.23.0, jinja2 3.1.6, the models' templates as collected in trl 1.16.0")
print("expected: a result that is a string is shown as it is, as Llama 3, Qwen2.5 and Qwen3 do; only objects become JSON")
seen = {family: shown(family) for family in ("llama3_1", "llama3_2", "llama3", "qwen2_5", "qwen3")}
for family, text in seen.items():
    print(f"seen:     {family:9} {'as it is' if RESULT in text else 'quoted':9} {text!r}")
verbatim = {family for family, text in seen.items() if RESULT in text}
if verbatim != {"llama3", "qwen2_5", "qwen3"} or r"France.\nDoc 2\nA town" not in seen["llama3_1"]:
    raise SystemExit("CHANGED: the templates treat strings otherwise now")
PYTHON
