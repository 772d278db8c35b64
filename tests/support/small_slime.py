"""A checkout of slime with everything that is looked for and nothing in it."""

from pathlib import Path


def save_slime(home: Path) -> Path:
    for name in ("slime/rollout/sglang_rollout.py", "slime/utils/arguments.py", "train.py"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    for package in ("slime", "slime/rollout", "slime/utils"):
        (home / package / "__init__.py").touch()
    (home / "setup.py").write_text('setup(name="slime", version="9.9.9")\n')
    models = home / "scripts" / "models"
    models.mkdir(parents=True)
    (models / "qwen2.5-3B.sh").write_text("MODEL_ARGS=(--num-layers 36)\n")
    return home
