"""What Ray Serve runs."""

import ray
from ray import serve
from ray.serve.schema import ApplicationStatusOverview


def applications() -> dict[str, ApplicationStatusOverview]:
    """By name; none once the connection to Ray is closed, where Serve's own function would start another Ray."""
    return serve.status().applications if ray.is_initialized() else {}
