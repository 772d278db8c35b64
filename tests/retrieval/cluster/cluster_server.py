"""A server whose replicas are processes of Ray's: ``cluster_server.py SETTINGS SCALE``, both as JSON."""

import json
import signal
import sys
from functools import partial
from pathlib import Path

from slime_search.retrieval.cluster.loading import Scale, load_cluster
from slime_search.retrieval.collection import RetrieverName, RetrieverSettings
from slime_search.retrieval.errors import SetupError
from slime_search.retrieval.loading import ServingOptions
from slime_search.retrieval.server import serve


def settings_of(fields: dict[str, object]) -> RetrieverSettings:
    paths = {name: Path(str(fields[name])) for name in ("corpus_path", "index_path") if name in fields}
    return RetrieverSettings(**fields | paths | {"name": RetrieverName(fields["name"])})  # type: ignore[arg-type]


if __name__ == "__main__":
    # As the command line does: the server raises the signal again once it has shut down.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    settings, scale = settings_of(json.loads(sys.argv[1])), Scale(**json.loads(sys.argv[2]))
    try:
        serve(
            partial(load_cluster, settings, scale),
            port=0,
            options=ServingOptions(workers=scale.workers, cache_bytes=0),
            exit_with_parent=True,
        )
    except SetupError as error:
        sys.exit(f"error: {error}")
