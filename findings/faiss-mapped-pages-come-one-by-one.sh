#!/usr/bin/env bash
# faiss-cpu 1.15.1: an index that is mapped with IO_FLAG_MMAP_IFC and is not in the page cache is fetched from the disk one page
# of 4 KiB after the other, each a fault that waits for the disk. One would expect what a plain mapping does, which fetches the
# pages that follow as well. 2.2 GB of RaBitQ codes, which are gone through while they are opened, so took 51 s and 534,170
# faults, and 2 s read without the flag. Counted are the faults that go to the disk, for a flat index that is searched once.
# Wants a temporary folder on a disk, not in memory: TMPDIR names another.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'faiss-cpu==1.15.1' 'numpy==2.4.6'
"$folder/venv/bin/python" - "$folder/flat.index" <<'PYTHON'
import os
import resource
import sys

import faiss
import numpy as np

path = sys.argv[1]
index = faiss.IndexFlatIP(256)
index.add(np.random.default_rng(0).standard_normal((20_000, 256)).astype(np.float32))
faiss.write_index(index, path)
pages = os.path.getsize(path) // resource.getpagesize()


def faults(work):
    """Pages that were waited for, when nothing of the file is in the page cache at first."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before


query = np.ones((1, 256), np.float32)
plain = faults(lambda: np.memmap(path, np.uint8, "r").max())
mapped = faults(lambda: faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC).search(query, 1))
print(f"file: {pages:,} pages; faults of a plain mapping: {plain:,}; of FAISS's: {mapped:,}")
if plain == 0:
    sys.exit(f"{path} can't be taken out of the page cache: set TMPDIR to a folder on a disk")
if mapped < 0.9 * pages or plain > 0.2 * pages:
    sys.exit("CHANGED: FAISS's mapping is read ahead")
print("as stated: each page of FAISS's mapping is waited for by itself")
PYTHON
