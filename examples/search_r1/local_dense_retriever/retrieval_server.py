"""The retrieval server, under the name and with the flags that Search-R1's users know.

    python retrieval_server.py --index_path e5_Flat.index --corpus_path wiki-18.jsonl --topk 3 \\
        --retriever_name e5 --retriever_model intfloat/e5-base-v2 --faiss_gpu

``--help`` lists the rest; ``slime-search serve-retriever`` is the same server.
"""

from slime_search.cli.serve_retriever import app

if __name__ == "__main__":
    app()
