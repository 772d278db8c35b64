"""Runs slime's contract files one after the other, as their command lines do, in one process that imports once.

Usage: run_contracts.py FILE FLAG PATH [FILE FLAG PATH …]. Prints ``contract N: exit STATUS`` after each.
"""

import runpy
import sys

# The contracts put stubs where these are not loaded yet.
import ray  # noqa: F401
import transformers  # noqa: F401

if __name__ == "__main__":
    arguments = sys.argv[1:]
    for number, start in enumerate(range(0, len(arguments), 3)):
        file, flag, path = arguments[start : start + 3]
        sys.argv = [file, flag, path, "-p", "no:cacheprovider", "-q"]
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as done:
            sys.stdout.write(f"\ncontract {number}: exit {int(done.code or 0)}\n")
            sys.stdout.flush()
