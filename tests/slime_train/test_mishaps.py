"""What happens to a training on the way: searches that fail, a resume, rollouts that are cut off and carried on."""

import pytest

from slime_search.hooks.contract import LocalSample
from slime_search.hooks.samples import RECORD_KEY
from tests.slime_train.conftest import Rehearse
from tests.slime_train.test_recipes import MISMATCH, NATS
from tests.support.loopback import status
from tests.support.scripted_retriever import ScriptedRetriever


def test_a_failed_search_takes_its_rollout_out_and_nothing_else(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedRetriever(lambda query: [f"Somebody\n{query} is of no account."]) as retriever:
        retriever.script = lambda lookup: status(503) if lookup.number % 7 == 3 else None
        monkeypatch.setenv("SLIME_SEARCH_LOCAL__SEARCH_URL", retriever.search_url)
        monkeypatch.setenv("SLIME_SEARCH_SEARCH_ATTEMPTS", "1")
        monkeypatch.setenv("SLIME_SEARCH_MAX_FAILURE_SHARE", "1")
        done = rehearse("search-r1", steps=2)
    failed = [sample for sample in done.samples("0") if sample.status is LocalSample.Status.FAILED]
    # slime masks what is removed when it makes training data of the samples.
    assert failed and all(sample.remove_sample for sample in failed)
    assert len(failed) < len(done.samples("0"))
    assert max(done.scalars[MISMATCH].values()) < NATS
    assert done.scalars["search/failed"][0] == pytest.approx(len(failed) / len(done.samples("0")))


def test_a_rehearsal_goes_on_from_its_checkpoint(rehearse: Rehearse) -> None:
    first = rehearse("search-r1", steps=1)
    kept = (first.folder.dumps / "0.pt").stat().st_mtime_ns
    done = rehearse("search-r1", steps=3)
    assert (done.folder.dumps / "0.pt").stat().st_mtime_ns == kept
    assert {"1.pt", "2.pt"} <= {path.name for path in done.folder.dumps.glob("*.pt")}
    assert max(done.scalars[MISMATCH].values()) < NATS
    assert (done.folder.checkpoints / "latest_checkpointed_iteration.txt").read_text().strip() == "2"


def test_rollouts_that_were_cut_off_are_carried_on(rehearse: Rehearse) -> None:
    done = rehearse("search-r1", "--partial-rollout", "--over-sampling-batch-size", "32", steps=4)
    resumed = [
        s for step in range(1, 4) for s in done.samples(str(step)) if s.metadata.get("start_rollout_id", step) < step
    ]
    assert resumed, "slime says of each sample in which rollout it began"
    assert all(sample.metadata[RECORD_KEY] and sample.reward is not None for sample in resumed)
    assert all(len(s.loss_mask) == len(s.rollout_log_probs) == s.response_length for s in resumed)


def test_rollouts_go_on_while_the_trainer_works(rehearse: Rehearse) -> None:
    function = "slime.rollout.fully_async_rollout.generate_rollout_fully_async"
    done = rehearse("search-r1", "--rollout-function-path", function, steps=3, script="train_async")
    assert set(done.scalars["train/grad_norm"]) == {0, 1, 2}
    assert all(sample.reward is not None for sample in done.samples("2"))
