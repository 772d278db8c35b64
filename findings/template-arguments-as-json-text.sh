#!/usr/bin/env bash
# OpenAI's API writes a tool call's arguments as a string of JSON. Given to a model's chat template as it came, that string
# is right for Qwen3, is encoded a second time for Qwen2.5, Llama 3.1 and gpt-oss without an error, and is refused by
# Qwen3.5. With an object, DeepSeek V3 is the one that refuses. No spelling of one conversation serves all of them.
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

JSON_TEXT = '{"query": "capital of France"}'
FAMILIES = ["qwen2_5", "qwen3", "qwen3_5_think", "llama3_1", "gptoss", "deepseekv3"]


def written(family, arguments):
    """What the model would have written to make this call, by its own template."""
    call = {"id": "call_0001", "type": "function", "function": {"name": "search", "arguments": arguments}}
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    messages.append({"role": "tool", "tool_call_id": "call_0001", "name": "search", "content": "R"})
    template = (TEMPLATES / f"{family}.jinja").read_text()
    try:
        text = render_jinja_template([messages], chat_template=template, bos_token="", eos_token="")[0][0]
    except Exception as error:
        return "refused", type(error).__name__
    line = next(line for line in text.splitlines() if "capital of France" in line)
    return ("encoded twice" if r"\"query" in line else "once"), line[-110:]


print("title:    tool arguments as JSON text: some chat templates encode them a second time, some refuse them")
print("versions: transformers 5.23.0, jinja2 3.1.6, the models' templates as collected in trl 1.16.0")
print("expected: a call in OpenAI's format gives the model's own format, whichever model it is")
seen = {}
for family in FAMILIES:
    seen[family] = []
    for kind, arguments in [("text", JSON_TEXT), ("object", {"query": "capital of France"})]:
        verdict, line = written(family, arguments)
        seen[family].append(verdict)
        print(f"seen:     {family:14} {kind:6} {verdict:13} {line}")
ONCE, TWICE, REFUSED = "once", "encoded twice", "refused"
if seen != {
    "qwen2_5": [TWICE, ONCE],
    "qwen3": [ONCE, ONCE],
    "qwen3_5_think": [REFUSED, ONCE],
    "llama3_1": [TWICE, ONCE],
    "gptoss": [TWICE, ONCE],
    "deepseekv3": [ONCE, REFUSED],
}:
    raise SystemExit(f"CHANGED: {seen}")
PYTHON
