#!/usr/bin/env bash
# A model's chat template is a Jinja template, and whoever renders it brings the filters. transformers replaces `tojson`; plain
# Jinja2 and MiniJinja (for servers in Rust) keep theirs, which write for HTML: an apostrophe or an ampersand in
# a tool's description becomes \u0027 or \u0026, and Jinja2 sorts the keys besides. One template, three prompts.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'transformers==5.23.0' 'jinja2==3.1.6' 'minijinja==3.0.5'
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check --no-deps 'trl==1.16.0'  # carries Qwen3's template
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.util import find_spec
from pathlib import Path

import jinja2
import minijinja
from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATE = (Path(find_spec("trl").submodule_search_locations[0]) / "chat_templates" / "qwen3.jinja").read_text()
PARAMETERS = {"type": "object", "properties": {"query": {"type": "string"}}}
FUNCTION = {"name": "search", "description": "Searches the user's notes & mail.", "parameters": PARAMETERS}
VALUES = {"messages": [{"role": "user", "content": "Q"}], "tools": [{"type": "function", "function": FUNCTION}]}
BLOCKS = {"trim_blocks": True, "lstrip_blocks": True}


def tool_line(prompt):
    return next(line for line in prompt.splitlines() if "Searches" in line)


seen = {
    "transformers": render_jinja_template([VALUES["messages"]], tools=VALUES["tools"], chat_template=TEMPLATE)[0][0],
    "jinja2": jinja2.Environment(**BLOCKS).from_string(TEMPLATE).render(**VALUES),
    "minijinja": minijinja.Environment(**BLOCKS, pycompat=True).render_str(TEMPLATE, **VALUES),
}
seen = {engine: tool_line(prompt) for engine, prompt in seen.items()}
print("title:    Jinja2, MiniJinja and transformers write three different prompts from one chat template")
print("versions: transformers 5.23.0, jinja2 3.1.6, minijinja 3.0.5, Qwen3's template from trl 1.16.0")
print("expected: the same text, whichever engine renders the template")
for engine, line in seen.items():
    print(f"seen:     {engine:12} {line}")
plain = "Searches the user's notes & mail."
escaped = r"Searches the user\u0027s notes \u0026 mail."
if plain not in seen["transformers"] or escaped not in seen["jinja2"] or escaped not in seen["minijinja"]:
    raise SystemExit("CHANGED: the engines escape otherwise")
if not (seen["jinja2"].startswith('{"function"') and seen["minijinja"].startswith('{"type"')):
    raise SystemExit("CHANGED: the engines order keys otherwise")
PYTHON
