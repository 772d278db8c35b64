"""An inference server in SGLang's place, which gives one answer to everything."""

import json
import sys
from argparse import ArgumentParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

ANSWER = "<think> hm </think> <answer> it was found </answer>"


class Handler(BaseHTTPRequestHandler):
    token_ids: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        self._answer({"model_path": "stand-in"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        meta = {"finish_reason": {"type": "stop"}}
        self._answer({"text": ANSWER, "output_ids": self.token_ids, "meta_info": meta})

    def _answer(self, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model-path", "--model", required=True)
    options, others = parser.parse_known_args()
    sys.stderr.write(f"loading {others}\n")
    sys.stderr.flush()
    if Path(options.model_path, "tokenizer_config.json").exists():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(options.model_path)
        Handler.token_ids = tokenizer.encode(ANSWER, add_special_tokens=False)
    ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()
