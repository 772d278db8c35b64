"""``python -m slime_search.launch``: what ``run_with_retrieval.sh`` runs."""

from slime_search.launch.checks import problems
from slime_search.launch.front_door import front_door
from slime_search.launch.settings import LaunchSettings

app = front_door(
    LaunchSettings, problems, "Runs a training with its retrieval server in one tmux session, as the environment says."
)

if __name__ == "__main__":
    app()
