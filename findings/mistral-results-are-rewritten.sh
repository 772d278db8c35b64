#!/usr/bin/env bash
# mistral-common is Mistral's own way from messages to tokens. Up to its third format (Mistral 7B v0.3, Nemo) a tool result
# that happens to be JSON is parsed and written again, so the model reads other text than the tool gave: a version 1.10
# becomes 1.1, 1e3 becomes 1000.0. From the seventh format on the same text is left alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'mistral-common==1.13.1' 'sentencepiece==0.2.3'
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.util import find_spec
from pathlib import Path

from mistral_common.protocol.instruct.messages import AssistantMessage, ToolMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import FunctionCall, ToolCall
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

DATA = Path(find_spec("mistral_common").submodule_search_locations[0]) / "data"
FILES = {
    "v3": "mistral_instruct_tokenizer_240323.model.v3",
    "v3, tekken": "tekken_240911.json",
    "v7": "mistral_instruct_tokenizer_241114.model.v7",
}
RESULTS = ["1.10", "1e3", '{"year":1984}', "Version 1.10"]


def shown(tokenizer, result):
    """What stands for the tool's result in the text whose tokens the model reads."""
    call = ToolCall(id="call00001", function=FunctionCall(name="search", arguments='{"query": "newest version"}'))
    messages = [UserMessage(content="Q"), AssistantMessage(tool_calls=[call])]
    messages.append(ToolMessage(tool_call_id="call00001", name="search", content=result))
    text = tokenizer.encode_chat_completion(ChatCompletionRequest(messages=messages)).text.replace("▁", " ")
    turn = text[text.index("[TOOL_RESULTS]") :].removesuffix("[/TOOL_RESULTS]")
    return turn.partition('"content": ')[2].rpartition(', "call_id"')[0] or turn.partition("[TOOL_CONTENT]")[2].strip()


print("title:    Mistral's third tokenizer format rewrites tool results that look like JSON")
print("versions: mistral-common 1.13.1, sentencepiece 0.2.3")
print("expected: a result is text; it is escaped at most, so 1.10 stays 1.10")
seen = {}
for name, file in FILES.items():
    tokenizer = MistralTokenizer.from_file(str(DATA / file))
    seen[name] = [shown(tokenizer, result) for result in RESULTS]
    for result, text in zip(RESULTS, seen[name]):
        print(f"seen:     {name:11} the tool says {result:14} the model reads {text}")
rewritten = ["1.1", "1000.0", '{"year": 1984}', '"Version 1.10"']
if seen != {"v3": rewritten, "v3, tekken": rewritten, "v7": RESULTS}:
    raise SystemExit(f"CHANGED: {seen}")
PYTHON
