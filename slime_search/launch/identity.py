"""Which process it is: a number alone may be another's by now."""

from pathlib import Path


def identity(pid: int) -> str | None:
    """``PID:START``, with the start in clock ticks since the machine's; None where no such process is."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # proc(5): the name stands in brackets and may hold anything; the start is field 22.
    return f"{pid}:{stat.rpartition(')')[2].split()[19]}"
