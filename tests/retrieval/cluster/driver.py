"""Somebody else on a Ray cluster, with an application of their own: ``driver.py ADDRESS``.

Once that runs, it says on stdout, as JSON, which applications Ray Serve has, and again for every line on stdin.
"""

import itertools
import json
import sys

import ray
from ray import serve


@serve.deployment
class Neighbour:
    pass


if __name__ == "__main__":
    ray.init(sys.argv[1], log_to_driver=False)
    serve.start(proxy_location="Disabled")
    serve.run(Neighbour.bind(), name="neighbour", route_prefix=None)
    for _ in itertools.chain([""], sys.stdin):
        sys.stdout.write(json.dumps(sorted(serve.status().applications)) + "\n")
        sys.stdout.flush()
