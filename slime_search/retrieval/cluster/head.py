"""``python -m slime_search.retrieval.cluster.head CPUS``: Ray on this machine alone, until stdin ends.

Its address is the only line on stdout. The kernel ends Ray's processes with the thread that started them, and they
inherit which signals that thread holds back; both are in order in a process of its own.
"""

import contextlib
import logging
import os
import signal
import sys

_OBJECT_STORE_BYTES = 256 << 20
"""What is on its way between processes: a few batches of vectors and results."""


def main() -> None:
    # A Ctrl-C in the terminal is the server's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    import ray

    context = ray.init(
        "local",
        num_cpus=int(sys.argv[1]),
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    # Who asked for it may have ended meanwhile.
    with contextlib.suppress(BrokenPipeError):
        print(context.address_info["gcs_address"], flush=True)  # noqa: T201
    # Ray reports there whenever one of its processes dies, and nobody reads on.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main()
