#!/usr/bin/env bash
# IO_FLAG_MMAP asks FAISS to map a file and not to read it. It holds for inverted lists alone: a flat index, the 65 GB file of
# Wikipedia's passages that search agents are trained with, is read into memory whole, without a word. The newer
# IO_FLAG_MMAP_IFC maps it. Measured is the process's own memory, in which mapped pages do not count.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'faiss-cpu==1.15.1' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
import tempfile
from pathlib import Path

import faiss
import numpy as np


def own_megabytes():
    fields = Path("/proc/self/status").read_text().split()
    return int(fields[fields.index("RssAnon:") + 1]) / 1024


def growth(path, flag):
    """Own memory that reading the file takes, in a process of its own, as a share of the file."""
    read, write = os.pipe()
    if os.fork() == 0:
        before = own_megabytes()
        index = faiss.read_index(path, flag)
        grown = own_megabytes() - before
        os.write(write, str(grown).encode())
        os._exit(0 if index.ntotal else 1)
    os.close(write)
    grown = float(os.read(read, 100))
    os.wait()
    return round(grown / (os.path.getsize(path) / 2**20), 1)


faiss.omp_set_num_threads(1)
vectors = np.random.default_rng(0).random((100_000, 128), dtype=np.float32)
seen = {}
with tempfile.TemporaryDirectory() as folder:
    for description in ("Flat", "SQ8", "IVF16,Flat"):
        index = faiss.index_factory(128, description)
        index.train(vectors[:2000])
        index.add(vectors)
        path = f"{folder}/index"
        faiss.write_index(index, path)
        flags = (("IO_FLAG_MMAP", faiss.IO_FLAG_MMAP), ("IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP_IFC))
        seen[description] = {name: growth(path, flag) for name, flag in flags}
print("title:    FAISS's IO_FLAG_MMAP reads a flat index into memory all the same")
print(f"versions: faiss-cpu 1.15.1, numpy 2.4.6, {sys.platform}")
print("expected: reading takes next to none of the process's own memory, whatever the index is")
for description, shares in seen.items():
    print(f"seen:     {description:11} own memory taken, as a share of the file: {shares}")
mapped = {name: shares["IO_FLAG_MMAP"] < 0.3 for name, shares in seen.items()}
if mapped != {"Flat": False, "SQ8": False, "IVF16,Flat": True} or max(seen["Flat"]["IO_FLAG_MMAP_IFC"], 0.3) != 0.3:
    raise SystemExit("CHANGED: the flags map other kinds of index now")
PYTHON
