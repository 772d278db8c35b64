#!/usr/bin/env bash
# Qwen3.5 writes the arguments of a call as plain text between tags, a boolean as `true`. A client parses that into a JSON
# object. When the conversation is rendered again, the template writes Python's `True` and `None`, so the next prompt shows
# the model a call that it did not write. Qwen3.6 changed it; Nemotron 3, which has the same format, did not.
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

ARGUMENTS = {"query": "Paris", "exact": True, "after": None, "limit": 3}  # JSON: true, null, 3


def written(family):
    call = {"id": "call_0001", "type": "function", "function": {"name": "search", "arguments": ARGUMENTS}}
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    messages.append({"role": "tool", "tool_call_id": "call_0001", "content": "R"})
    template = (TEMPLATES / f"{family}.jinja").read_text()
    text = render_jinja_template([messages], chat_template=template)[0][0]
    lines = [line.strip() for line in text.partition("<function=search>")[2].partition("</function>")[0].splitlines()]
    return {line[11:-1]: value for line, value in zip(lines, lines[1:]) if line.startswith("<parameter=")}


print("title:    Qwen3.5 and Nemotron 3: a boolean argument comes back as True, a null as None")
print("versions: transformers 5.23.0, jinja2 3.1.6, the models' templates as collected in trl 1.16.0")
print("expected: true and null, as the model wrote them and as its tools' JSON schemas have them")
seen = {family: written(family) for family in ("qwen3_5_think", "nemotron_3_nano", "qwen3_6", "qwen3_8")}
for family, arguments in seen.items():
    print(f"seen:     {family:16} {arguments}")
python = {"query": "Paris", "exact": "True", "after": "None", "limit": "3"}
if seen["qwen3_5_think"] != python or seen["nemotron_3_nano"] != python:
    raise SystemExit("CHANGED: the templates write JSON now")
PYTHON
