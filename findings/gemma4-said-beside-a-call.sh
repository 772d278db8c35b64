#!/usr/bin/env bash
# Title: Gemma 4's chat template puts what the model said before a call after its result, and then opens no turn
# Versions: trl 1.16.0 (its copy of google/gemma-4-E2B-it at 8995379), jinja2 3.1.6 (with the settings that transformers gives it)
# Expected: an assistant message with content and tool_calls is rendered in that order; add_generation_prompt=True ends
#   the prompt where the model speaks next.
# Seen: the content comes after the tool's response, the model's turn is closed there, and add_generation_prompt=True
#   adds nothing, so the model is asked to go on after a finished conversation. With empty content both are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jinja2==3.1.6
"$folder/venv/bin/pip" install -q --no-deps trl==1.16.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import distribution

from jinja2.sandbox import ImmutableSandboxedEnvironment

source = distribution("trl").locate_file("trl/chat_templates/gemma4_v5.jinja").read_text()
template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)


def render(said):
    call = {"id": "a", "type": "function", "function": {"name": "search", "arguments": {"query": "who"}}}
    messages = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": said, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "name": "search", "content": "RESULT"},
    ]
    return template.render(messages=messages, add_generation_prompt=True, bos_token="<bos>")


silent, speaking = render(""), render("Let me look.")
print(repr(silent), repr(speaking), sep="\n")
assert silent.endswith("<tool_response|>"), "where nothing was said the model goes on inside its turn"
assert speaking.endswith("<tool_response|>Let me look.<turn|>\n"), "what was said before comes after, and ends the turn"
PYTHON
