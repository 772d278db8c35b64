#!/usr/bin/env bash
# Title: LFM2.5's chat template writes a quote inside an argument as it is, so its own call is no Python
# Versions: trl 1.16.0 (lfm2_2_5_v2.jinja and lfm2_v2.jinja), jinja2 3.1.6 (with the settings that transformers gives it)
# Expected: calls, which this family writes as Python, are written so that Python's parser reads them back, as the
#   older LFM2 template's are.
# Seen: "Who is O'Brien?" becomes [search(query='Who is O'Brien?')], a syntax error. Earlier calls in a conversation
#   that is rendered again teach the model that form, and a parser with ast.parse loses the call.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jinja2==3.1.6
"$folder/venv/bin/pip" install -q --no-deps trl==1.16.0
"$folder/venv/bin/python" - <<'PYTHON'
import ast
import re
from importlib.metadata import distribution

from jinja2.sandbox import ImmutableSandboxedEnvironment


def call_of(name):
    source = distribution("trl").locate_file(f"trl/chat_templates/{name}").read_text()
    function = {"name": "search", "arguments": {"query": "Who is O'Brien?"}}
    messages = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "type": "function", "function": function}]},
    ]
    # Marks for training's loss, which transformers knows and which write nothing.
    source = re.sub(r"\{%-\s*(?:end)?generation\s*-%\}", "{#- -#}", source)
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)
    text = template.render(messages=messages, bos_token="")
    return text.partition("<|tool_call_start|>")[2].partition("<|tool_call_end|>")[0]


def reads_back(call):
    try:
        (one,) = ast.parse(call, mode="eval").body.elts
    except SyntaxError:
        return False
    return ast.literal_eval(one.keywords[0].value) == "Who is O'Brien?"


older, newer = call_of("lfm2_v2.jinja"), call_of("lfm2_2_5_v2.jinja")
print(older, newer, sep="\n")
assert reads_back(older)
assert not reads_back(newer)
PYTHON
