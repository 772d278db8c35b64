"""The Searcher service on port 8001, over an inference server that serves the frozen model.

    python searcher_server.py --model Qwen/Qwen2.5-1.5B-Instruct --engine-url http://127.0.0.1:30001
    curl -H 'Content-Type: application/json' -d '{"queries": ["Who directed Inception?"]}' 127.0.0.1:8001/search

``--help`` lists the rest; ``slime-search serve-searcher`` is the same service. launch_searcher.sh starts both servers.
"""

from slime_search.cli.serve_searcher import app

if __name__ == "__main__":
    app()
