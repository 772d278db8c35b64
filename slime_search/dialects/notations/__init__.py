"""How families of models write calls and thoughts, one small parser each."""

from collections.abc import Mapping
from typing import Any

from slime_search.core.call_markup import CALL_OPEN
from slime_search.dialects.notations.base import Notation as Notation
from slime_search.dialects.notations.deepseek import DeepSeekV3, DeepSeekV31
from slime_search.dialects.notations.gemma import Gemma4
from slime_search.dialects.notations.glm import Glm
from slime_search.dialects.notations.gpt_oss import GptOss
from slime_search.dialects.notations.hermes import Hermes
from slime_search.dialects.notations.invoke import DeepSeekV4, MiniMax
from slime_search.dialects.notations.kimi import Kimi
from slime_search.dialects.notations.lfm2 import Lfm2
from slime_search.dialects.notations.llama import Llama
from slime_search.dialects.notations.mistral import Mistral, MistralJson
from slime_search.dialects.notations.xml import QwenXml

HERMES = Hermes()
_ALL: tuple[Notation, ...] = (
    HERMES,
    QwenXml(),
    Glm(),
    GptOss(),
    DeepSeekV31(),
    DeepSeekV3(),
    DeepSeekV4(),
    Gemma4(),
    MistralJson(),
    Mistral(),
    Kimi(),
    Lfm2(),
    MiniMax(),
    Llama(),
)
NOTATIONS: Mapping[str, Notation] = {notation.name: notation for notation in _ALL}
"""By the names that ``chat.notation`` takes."""


def notation_of(turn: str, name: str, arguments: Mapping[str, Any]) -> Notation | None:
    """The notation in which ``turn``, as a template wrote it, holds exactly the call of ``name`` with ``arguments``."""
    for notation in _ALL:
        if notation is HERMES and CALL_OPEN not in turn:
            # It reads Llama's bare object as well.
            continue
        spoken = notation.spoken(turn)
        calls = notation.split(spoken)[1] if spoken is not None else []
        if [(call.name, call.arguments, call.error) for call in calls] == [(name, arguments, None)]:
            return notation
    return None
