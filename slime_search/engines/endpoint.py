"""An engine outside slime: where it is, and how it is spoken to."""

from dataclasses import dataclass, field
from typing import Literal

Protocol = Literal["generate", "completions"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What takes the place of slime's router, as ``args.endpoint``, when a recipe runs outside slime.

    ``url`` is a base URL. ``protocol`` is how the tag recipes ask for tokens: SGLang's ``/generate``, or OpenAI's
    ``/v1/completions``, whose answers nobody can train on; the tool-calling recipes use ``/v1/chat/completions`` of
    either. ``model`` is its name there, and ``token`` a bearer token, which travels in a header only.
    """

    url: str
    protocol: Protocol = "generate"
    model: str = "default"
    token: str | None = field(default=None, repr=False)
