"""What a benchmark says of the machine that it ran on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> str:
    """CPU, cores, load and Python, and the versions of ``packages`` as they are installed."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.processor()
    versions = "".join(f", {package} {version(package)}" for package in packages)
    return (
        f"machine: {cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; {platform.system()}, "
        f"Python {platform.python_version()}{versions}"
    )
