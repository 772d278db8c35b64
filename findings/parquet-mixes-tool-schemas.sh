#!/usr/bin/env bash
# Training sets keep each question's tools beside it, as a column of JSON schemas. Arrow has one type for the whole column, so
# the struct of a tool's properties gets the fields of every tool in the file, and each row comes back with the other tools'
# parameters as null. The chat template shows them to the model: a search tool that takes "expression": null and "digits": null.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'pyarrow==26.0.1' 'transformers==5.23.0' 'jinja2==3.1.6'
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check --no-deps 'trl==1.16.0'  # carries Qwen3's template
"$folder/venv/bin/python" - <<'PYTHON'
import json
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATE = Path(find_spec("trl").submodule_search_locations[0]) / "chat_templates" / "qwen3.jinja"


def tool(name, properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


SEARCH = tool("search", {"query": {"type": "string"}})
CALCULATE = tool("calculate", {"expression": {"type": "string"}, "digits": {"type": "integer", "minimum": 0}})
with tempfile.TemporaryDirectory() as folder:
    path = f"{folder}/train.parquet"
    pq.write_table(pa.Table.from_pylist([{"tools": [SEARCH]}, {"tools": [CALCULATE]}]), path)
    first = pq.read_table(path).to_pylist()[0]["tools"]
question = [{"role": "user", "content": "What is the capital of France?"}]
prompt = render_jinja_template([question], tools=first, chat_template=TEMPLATE.read_text())[0][0]
(line,) = [line for line in prompt.splitlines() if line.startswith('{"type": "function"')]
print("title:    tool schemas kept in Parquet come back with the parameters of all the file's tools")
print("versions: pyarrow 26.0.1, transformers 5.23.0, jinja2 3.1.6, Qwen3's template from trl 1.16.0")
print(f"expected: {json.dumps(SEARCH)}")
print(f"seen:     {line}")
properties = json.loads(line)["function"]["parameters"]["properties"]
if properties != {"query": {"type": "string"}, "expression": None, "digits": None}:
    raise SystemExit("CHANGED: the row's own schema comes back")
PYTHON
