#!/usr/bin/env bash
# In gpt-oss's template a thought before a tool call is shown only as long as no final answer follows it in the messages.
# Rendering a finished search therefore gives another beginning than the prompts from which its turns were sampled: the
# thoughts of the same question are gone. Trained on that rendering, the model never sees the thoughts that led to the calls.
# TRL's variant of the template for training does the same.
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

THOUGHT = "I need the capital, so I search."


def render(family, messages, start_answer):
    template = (TEMPLATES / f"{family}.jinja").read_text()
    return render_jinja_template([messages], chat_template=template, add_generation_prompt=start_answer)[0][0]


call = {"id": "call_0001", "type": "function", "function": {"name": "search", "arguments": {"query": "Paris"}}}
messages = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "thinking": THOUGHT, "tool_calls": [call]},
    {"role": "tool", "tool_call_id": "call_0001", "content": "Paris is the capital of France."},
    {"role": "assistant", "thinking": "Now I know.", "content": "Paris"},
]
print("title:    gpt-oss: once a search has its answer, the thoughts behind its calls are no longer rendered")
print("versions: transformers 5.23.0, jinja2 3.1.6, gpt-oss's template as collected in trl 1.16.0")
print("expected: what was rendered to sample the answer is a prefix of the whole conversation; only older questions lose")
print("          their thoughts")
seen = {}
for family in ("gptoss", "gptoss_training"):
    prompt, whole = render(family, messages[:3], True), render(family, messages, False)
    seen[family] = (THOUGHT in prompt, THOUGHT in whole, whole.startswith(prompt))
    print(f"seen:     {family}: thought in the prompt of the answer: {seen[family][0]}, in the whole: {seen[family][1]},")
    print(f"          the prompt is a prefix of the whole: {seen[family][2]}")
if set(seen.values()) != {(True, False, False)}:
    raise SystemExit("CHANGED: thoughts are kept, or always dropped")
PYTHON
