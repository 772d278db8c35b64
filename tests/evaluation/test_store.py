"""The folder of an evaluation after every kind of end."""

from pathlib import Path

import pytest

from slime_search.errors import ConfigError, DataError
from slime_search.evaluation.store import Store
from tests.evaluation.scored_rollouts import failed, rollout

SETTINGS = {"temperature": 0.0, "config": {"topk": 3}, "data_sets": {"nq": "2 questions"}}


def written(folder: Path, *lines: bytes) -> Store:
    store = Store(folder)
    with store.writing(SETTINGS, fresh=False):
        pass
    store.rollouts.write_bytes(b"".join(lines))
    return store


@pytest.mark.parametrize("cut", [1, 20, -2, -1])
def test_a_torn_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    last = rollout(1).line()
    store = written(tmp_path, rollout(0).line(), last[:cut])
    assert [one.id for one in store.finished()] == ["nq/0/0"]
    with store.writing(SETTINGS, fresh=False) as writing:
        assert [one.id for one in writing.finished] == ["nq/0/0"]
        writing.add(rollout(1))
    assert store.rollouts.read_bytes() == rollout(0).line() + last


def test_failed_rollouts_leave_the_file_so_that_they_are_made_again(tmp_path: Path) -> None:
    store = written(tmp_path, failed(0).line(), rollout(1).line(), failed(2).line())
    assert len(store.finished()) == 3
    with store.writing(SETTINGS, fresh=False) as writing:
        assert [one.id for one in writing.finished] == ["nq/1/0"]
    assert store.rollouts.read_bytes() == rollout(1).line()


def test_a_changed_setting_is_refused_and_named(tmp_path: Path) -> None:
    store = written(tmp_path, rollout(0).line())
    store.finish({"em": 1}, "table")
    changed = {**SETTINGS, "temperature": 0.7, "config": {"topk": 5}}
    with (
        pytest.raises(ConfigError, match=r"temperature was 0\.0 and is 0\.7; config\.topk was 3 and is 5.*--fresh"),
        store.writing(changed, fresh=False),
    ):
        pass
    assert store.rollouts.read_bytes() == rollout(0).line()
    assert store.summary.exists() and store.table.exists()
    with store.writing(changed, fresh=True) as writing:
        assert writing.finished == []


@pytest.mark.parametrize(("text", "told"), [('{"temperature": 0.0,', "not JSON"), ("[]", "are no settings")])
def test_settings_that_cannot_be_read_are_named(tmp_path: Path, text: str, told: str) -> None:
    store = written(tmp_path, rollout(0).line())
    store.settings.write_text(text)
    with (
        pytest.raises(DataError, match=rf"settings\.json: .*{told}.*start again with --fresh"),
        store.writing(SETTINGS, fresh=False),
    ):
        pass
    with store.writing(SETTINGS, fresh=True) as writing:
        assert writing.finished == []


def test_settings_are_there_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, text: str, **_: object) -> None:
        path.write_bytes(text.encode()[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt), Store(tmp_path).writing(SETTINGS, fresh=False):
            pass
    with Store(tmp_path).writing(SETTINGS, fresh=False) as writing:
        writing.add(rollout(0))


def test_results_of_before_do_not_outlive_new_rollouts(tmp_path: Path) -> None:
    store = written(tmp_path)
    store.finish({"em": 1}, "table")
    with store.writing(SETTINGS, fresh=False):
        assert not store.summary.exists() and not store.table.exists()


def test_two_evaluations_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with (
        Store(tmp_path).writing(SETTINGS, fresh=False),
        pytest.raises(ConfigError, match="another evaluation is writing"),
        Store(tmp_path).writing(SETTINGS, fresh=False),
    ):
        pass


@pytest.mark.parametrize("line", [b"{}\n", b"not JSON\n", rollout(0, score={"em": 1.0}).line()])
def test_a_line_that_is_no_rollout_is_named(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(DataError, match=r"rollouts\.jsonl, line 2: not a rollout"):
        written(tmp_path, rollout(0).line(), line, rollout(1).line()).finished()


def test_a_folder_without_an_evaluation_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no evaluation is there"):
        Store(tmp_path).finished()
