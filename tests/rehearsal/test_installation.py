"""What is missing is said before anything starts, with the variable and the fix."""

import sys
from pathlib import Path

import pytest

from slime_search.errors import ConfigError
from slime_search.rehearsal.installation import Installation, installation

PATCH = """--- a/megatron/core/a.py
+++ b/megatron/core/a.py
@@ -1,2 +1,3 @@
 first
+    added = True
 last
"""


@pytest.fixture
def found(tmp_path: Path) -> Installation:
    """Checkouts in the shape of the real ones, and a Python that says it has every package."""
    slime, megatron = tmp_path / "slime", tmp_path / "Megatron-LM"
    for path in (slime / "train.py", slime / "slime/ray/rollout.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    patch = slime / "docker/patch/latest/megatron.patch"
    patch.parent.mkdir(parents=True)
    patch.write_text(PATCH)
    (megatron / "megatron/core/transformer").mkdir(parents=True)
    (megatron / "megatron/core/a.py").write_text("first\n    added = True\nlast\n")
    python = answering(tmp_path / "python", '{"missing": [], "versions": {"numpy": "1.26.4", "pyarrow": "21.0.0"}}')
    return Installation(slime, megatron, python, python)


def answering(path: Path, answer: str) -> Path:
    path.write_text(f"#!/bin/sh\necho 'a line that a package prints'\necho '{answer}'\n")
    path.chmod(0o755)
    return path


def refused(found: Installation) -> str:
    with pytest.raises(ConfigError) as error:
        found.check()
    return str(error.value)


def test_what_is_whole_passes(found: Installation) -> None:
    found.check()


def test_a_folder_that_is_no_slime(found: Installation) -> None:
    (found.slime_home / "train.py").unlink()
    assert refused(found).startswith(f"SLIME_HOME: {found.slime_home} has no train.py; name a checkout of slime")


def test_a_megatron_without_slimes_patch(found: Installation) -> None:
    (found.megatron_home / "megatron/core/a.py").write_text("first\nlast\n")
    message = refused(found)
    assert "megatron/core/a.py is not as slime's patch leaves it" in message
    assert f"git -C {found.megatron_home} apply" in message


def test_packages_that_a_python_lacks(found: Installation, tmp_path: Path) -> None:
    answering(found.slime_python, '{"missing": ["ray", "omegaconf"], "versions": {}}')
    assert "lacks ray, omegaconf; install what docs/rehearsal.md lists" in refused(found)


@pytest.mark.parametrize(
    ("numpy", "pyarrow", "name"), [("2.1.0", "21.0.0", "numpy 2.1.0"), ("1.26.4", "26.0.0", "pyarrow 26")]
)
def test_versions_that_megatron_does_not_live_with(found: Installation, numpy: str, pyarrow: str, name: str) -> None:
    answering(found.slime_python, f'{{"missing": [], "versions": {{"numpy": "{numpy}", "pyarrow": "{pyarrow}"}}}}')
    message = refused(found)
    assert name in message and "pip install 'numpy<2' 'pyarrow<26'" in message


def test_a_python_that_does_not_run(found: Installation, tmp_path: Path) -> None:
    found.slime_python.write_text("#!/bin/sh\nexit 3\n")
    assert "SGLANG_PYTHON" in refused(found) and "does not run" in refused(found)
    found.slime_python.unlink()
    assert "there is no" in refused(found)


def test_a_real_python_is_asked_for_its_packages(found: Installation) -> None:
    real = Installation(found.slime_home, found.megatron_home, Path(sys.executable), Path(sys.executable))
    assert "lacks" in refused(real)


@pytest.mark.parametrize("variable", ["SLIME_HOME", "MEGATRON_HOME", "SGLANG_PYTHON"])
def test_each_variable_is_asked_for(variable: str) -> None:
    environment = {"SLIME_HOME": "/s", "MEGATRON_HOME": "/m", "SGLANG_PYTHON": "/p"}
    assert installation(environment).slime_python == Path("/p")
    environment[variable] = ""
    with pytest.raises(ConfigError, match=f"^{variable}: not set"):
        installation(environment)


def test_an_option_wins_over_the_variable_and_the_pythons_may_differ() -> None:
    environment = {"SLIME_HOME": "/s", "MEGATRON_HOME": "/m", "SGLANG_PYTHON": "/p", "SLIME_PYTHON": "/q"}
    found = installation(environment, slime_home=Path("/other"))
    assert (found.slime_home, found.sglang_python, found.slime_python) == (Path("/other"), Path("/p"), Path("/q"))
