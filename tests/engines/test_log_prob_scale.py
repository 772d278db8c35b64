"""Log-probabilities that are not those of the distribution sampled from are found out before they are trained on."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.engines.log_prob_scale import changes_distribution, follows_temperature
from slime_search.errors import ProtocolError
from tests.support.chat_rollouts import asking, by_chat_turn, diligent, generate_all, tools_recipe
from tests.support.loopback import status
from tests.support.rollouts import arguments, generate, new_sample, recipe, sampling_params
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import Exchange, ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever


@given(logits=st.lists(st.floats(-20, 20), min_size=2, max_size=5), noise=st.floats(-0.01, 0.01))
def test_temperature_shows_in_the_distances(logits: list[float], noise: float) -> None:
    told = [logit + noise for logit in logits]
    if max(logits) - min(logits) > 1:
        assert follows_temperature(logits, [2 * logit - 3 for logit in told]) is True
        assert follows_temperature(logits, told) is False
    assert follows_temperature(logits[:1], logits) is None
    assert follows_temperature([0.0, 0.0], [0.0, 0.0]) is None


@pytest.mark.parametrize(
    ("params", "changed"),
    [
        ({"temperature": 1.0, "top_p": 0.5, "top_k": 3}, {}),
        ({"temperature": 0, "repetition_penalty": 1.0, "logit_bias": None}, {}),
        ({"temperature": 0.7, "presence_penalty": 0.0}, {"temperature": 0.7}),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
    ],
)
def test_what_changes_the_distribution(params: dict[str, Any], changed: dict[str, Any]) -> None:
    assert changes_distribution(params) == changed


@pytest.mark.parametrize("raw", [True, False])
def test_vllm_with_raw_log_probabilities_is_refused_at_other_temperatures(
    raw: bool, tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    def play(temperature: float, **config: Any) -> list[Any]:
        params = sampling_params(temperature=temperature)
        return generate_all(tools_recipe(retriever, **config), arguments(engine, checkpoint), [asking()], params)

    options: dict[str, Any] = {"takes_ids": False, "style": "vllm", "tokenise": tokenizer.encode}
    with ScriptedChat(tokenizer, by_chat_turn(diligent), raw_log_probs=raw, **options) as engine:
        play(1.0)
        assert len(engine.probes) == 1
        if raw:
            with pytest.raises(ProtocolError, match=r"'temperature': 0.7.*--logprobs-mode processed_logprobs"):
                play(0.7)
        else:
            ((sample,),) = play(0.7)
            assert sample.reward == 1.0
        ((sample,),) = play(0.7, return_logprob=False)
        assert sample.rollout_log_probs is None


@pytest.mark.parametrize("shown", ["raw", "scaled", "refused", "nothing"])
def test_generate_is_asked_too(
    shown: str, qwen: Any, qwen_folder: Path, retriever: ScriptedRetriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.policies import think_answer

    if shown == "raw":
        monkeypatch.setattr(
            "tests.support.scripted_engine.top_log_probs", lambda count, _: [-0.5 - n for n in range(count)]
        )
    if shown == "nothing":
        monkeypatch.setattr("tests.support.scripted_engine.top_log_probs", lambda count, _: [])

    def script(exchange: Exchange) -> Any:
        return status(400) if shown == "refused" and exchange.is_probe else None

    def play() -> list[Any]:
        params = sampling_params(temperature=0.7)
        return generate(recipe(retriever), arguments(engine, qwen_folder), [new_sample(), new_sample(8)], params)

    with ScriptedEngine(qwen, lambda context: think_answer("name-7")) as engine:
        engine.script = script
        if shown == "raw":
            with pytest.raises(ProtocolError, match="SGLANG_RETURN_ORIGINAL_LOGPROB"):
                play()
            return
        assert play()[0].reward == 1.0
        assert sum(exchange.is_probe for exchange in engine.exchanges) == (1 if shown == "refused" else 2)
