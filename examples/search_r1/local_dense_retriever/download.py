"""Downloads the corpus and the index that Search-R1 searches, ready to be served.

    python download.py --save_path /data/wiki-18

It can be killed and started again at any moment; ``--help`` says the rest.
"""

from slime_search.cli.download_wiki18 import app

if __name__ == "__main__":
    app()
