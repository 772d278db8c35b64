"""The processes that a process has started, and those that they have."""

from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Process ids and command lines."""
    found: dict[int, str] = {}
    parents = {child: parent for child, parent, _ in _all()}
    for child, _, command in _all():
        ancestor = child
        while ancestor in parents and ancestor != pid:
            ancestor = parents[ancestor]
        if ancestor == pid and child != pid:
            found[child] = command
    return found


def replicas(pid: int, deployment: str) -> set[int]:
    """The processes of a deployment among the descendants."""
    return {
        child
        for child, command in descendants(pid).items()
        if command.startswith("ray::ServeReplica:slime-search-") and f":{deployment}" in command
    }


def alive(pids: set[int]) -> set[int]:
    return {pid for pid, _, _ in _all()} & pids


def _all() -> list[tuple[int, int, str]]:
    """Every process that has not ended: its id, its parent's, its command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_text().replace("\0", " ").strip()
        except OSError:
            continue
        if state != "Z":
            found.append((int(folder.name), int(parent), command))
    return found
