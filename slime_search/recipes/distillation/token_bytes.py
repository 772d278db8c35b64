"""The bytes that each token of a vocabulary stands for."""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from slime_search.core.byte_alphabet import token_bytes
from slime_search.errors import ConfigError

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_CONTROL = re.compile(r"[<\[].+[>\]]")
"""How special tokens are written. Other strings are added as special, too, only to be one token."""
_SPACE = "▁"
_PROBE = "Where is 東京? naïve\n\n  42 🎉"


class TokenBytes:
    """A fast Hugging Face tokenizer's tokens as bytes.

    They are read from the vocabulary and not from decoded text, in which a token that holds half a character has no
    bytes of its own. Byte-level BPE and the byte fallback of sentencepiece are known, which is what chat models have.

    Args:
        tokenizer: of the ``transformers`` package.
        markup: what a dialect writes, such as ``<think>``. It is text even where it is a special token, as it is when
            somebody added it with ``add_special_tokens``.

    Raises:
        ConfigError: it is no fast tokenizer, or one of another kind.
    """

    def __init__(self, tokenizer: Any, markup: Collection[str] = ()) -> None:
        self._name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise self._refusal("it is not a fast tokenizer, whose vocabulary can be read")
        self._backend = backend
        added = tokenizer.added_tokens_decoder
        special = {
            i: token.content for i, token in added.items() if token.special and _CONTROL.fullmatch(token.content)
        }
        special |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        self._special = {i: token for i, token in special.items() if token not in markup}
        self._added = frozenset(added)
        kinds = _decoder_kinds(backend)
        self._byte_level = "ByteLevel" in kinds
        if not self._byte_level and not kinds & {"ByteFallback", "Metaspace"}:
            raise self._refusal(f"its decoder is {', '.join(sorted(kinds)) or 'missing'}")
        self._known: dict[int, bytes] = {}
        self._check(tokenizer)

    def of(self, token_ids: Sequence[int]) -> list[bytes]:
        """The bytes of each token; none of a special token, which stands for no text."""
        known = self._known
        for i in token_ids:
            if i not in known:
                known[i] = self._look_up(i)
        return [known[i] for i in token_ids]

    def special(self, token_id: int) -> str | None:
        """A special token as it is written; None of any other."""
        return self._special.get(token_id)

    def normalise(self, text: str) -> str:
        """What the tokenizer makes of a text before it cuts it up; of sentencepiece, its ▁ as the blanks they mean."""
        if not self._byte_level:
            return text.replace(_SPACE, " ")
        normaliser = self._backend.normalizer
        return text if normaliser is None else str(normaliser.normalize_str(text))

    def _look_up(self, token_id: int) -> bytes:
        token = self._backend.id_to_token(token_id)
        if token is None:
            # A model's vocabulary may be padded beyond the tokenizer's.
            return b""
        if not self._byte_level and (byte := _BYTE.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        if token_id in self._special:
            return b""
        if not self._byte_level:
            return str(token).replace(_SPACE, " ").encode()
        if token_id in self._added:
            return str(token).encode()
        return token_bytes(token)

    def _check(self, tokenizer: Any) -> None:
        """Tokens put together must give the text back, but for the blank that sentencepiece puts before it."""
        got = b"".join(self.of(tokenizer.encode(_PROBE, add_special_tokens=False)))
        if got.removeprefix(b" ") != _PROBE.encode():
            raise self._refusal(f"its tokens of {_PROBE!r} stand for {got!r}")

    def _refusal(self, reason: str) -> ConfigError:
        return ConfigError(
            f"tokenizer {self._name}: the bytes of its tokens can't be told ({reason}). Distillation between two "
            "tokenizers needs byte-level BPE or sentencepiece with byte fallback on both sides; with a teacher that "
            "has the policy's own tokenizer, leave teacher.tokenizer out."
        )


def _decoder_kinds(backend: Any) -> set[str]:
    if backend.decoder is None:
        return set()
    decoder = json.loads(backend.decoder.__getstate__())
    return {decoder["type"]} | {part["type"] for part in decoder.get("decoders", ())}
