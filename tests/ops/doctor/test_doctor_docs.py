"""docs/doctor.md is up to date."""

from slime_search.ops.doctor.results import NO_GPU
from slime_search.reference.doctor import table
from tests.ops.doctor.doctor_site import ROOT


def test_the_list_of_checks() -> None:
    text = (ROOT / "docs/doctor.md").read_text()
    assert table() in text, "python -m slime_search.reference.doctor prints what it should hold"
    assert f"`{NO_GPU}`" in text
