"""The policy's checkpoint, tokenizer and chat template."""

from collections.abc import Iterator
from typing import Any

from rich.filesize import decimal

from slime_search.core.tokens import TokenCodec
from slime_search.dialects.chat_frame import ChatTemplate
from slime_search.dialects.tool_calls import MARKUP
from slime_search.errors import ConfigError, DataError
from slime_search.ops.doctor.checkpoint import CheckpointError, read_checkpoint
from slime_search.ops.doctor.results import Result, failed, passed, skipped, warned
from slime_search.ops.doctor.setup import Setup
from slime_search.recipes.search_r1_tools import TOOL_SCHEMAS

_HOSTILE = "passage with {} and <|im_end|> in it, naïve 東京"


def checkpoint(setup: Setup) -> Iterator[Result]:
    """HF_CHECKPOINT is whole."""
    folder = setup.run.hf_checkpoint
    try:
        found = read_checkpoint(folder)
    except CheckpointError as error:
        hub = f"Qwen/{folder.name}" if folder.name.startswith("Qwen") else "<its name on the Hub>"
        fix = f"hf download {hub} --local-dir {folder}, or set HF_CHECKPOINT"
        yield failed("HF_CHECKPOINT", str(error), fix)
        return
    size = f"{decimal(found.weight_bytes)}, {_count(found.parameters)} parameters"
    yield passed("HF_CHECKPOINT", f"{folder}: {found.architecture}, {size}")


def reference(setup: Setup) -> Iterator[Result]:
    """REF_LOAD is there, which Megatron starts from."""
    path = setup.run.reference
    if path.exists():
        yield passed("REF_LOAD", str(path))
    elif setup.gpus:
        yield failed("REF_LOAD", f"{path} does not exist", "make it, once, with examples/search_r1/convert_model.sh")
    else:
        yield skipped("REF_LOAD", f"{path} does not exist; convert_model.sh makes it, on GPUs only")


def tokenizer(setup: Setup) -> Iterator[Result]:
    """The tokenizer loads as the hooks load it, and the model has a vector for each of its tokens."""
    model = setup.checkpoint
    folder = setup.run.hf_checkpoint
    try:
        found: Any = setup.load_tokenizer()
    except ImportError:
        yield failed("tokenizer", "transformers is not installed", "pip install transformers")
        return
    except (OSError, ValueError) as error:
        finding = f"{folder}: {' '.join(str(error).split())[:300]}"
        yield failed("tokenizer", finding, "copy the model's tokenizer files there too")
        return
    finding = f"{type(found).__name__}, {len(found):,} tokens, ends with {found.eos_token!r}"
    if found.eos_token is None:
        yield failed("tokenizer", finding, "name eos_token in tokenizer_config.json: a turn could not end")
    elif model.vocabulary is not None and len(found) > model.vocabulary:
        yield failed(
            "tokenizer",
            f"{finding}; the model has vectors for {model.vocabulary:,}",
            "take the tokenizer that belongs to the model, or resize its embeddings",
        )
    else:
        yield passed("tokenizer", finding)


def tags(setup: Setup) -> Iterator[Result]:
    """The tags survive the tokenizer, and tool text can't produce them or a special token."""
    tokenizer = setup.tokenizer
    known = MARKUP if setup.calls_tools else tuple(getattr(getattr(setup.recipe, "format", None), "tags", MARKUP))
    codec = TokenCodec(tokenizer, known)
    changed = [tag for tag in known if tokenizer.decode(codec.trusted(tag), skip_special_tokens=False) != tag]
    if changed:
        yield failed("tags", f"the tokenizer changes {', '.join(changed)}", "use the tokenizer of another model")
        return
    try:
        hostile = _HOSTILE.format(" ".join(known))
        came_back = tokenizer.decode(codec.untrusted(hostile), skip_special_tokens=False)
    except DataError as error:
        yield failed("tags", str(error), "use the tokenizer of another model")
        return
    own = sum(len(codec.trusted(tag)) == 1 for tag in known)
    finding = f"{own or 'none'} of {len(known)} tags are tokens of their own"
    if came_back == hostile:
        yield passed("tags", f"{finding}; passages can't forge them")
    else:
        yield warned("tags", f"{finding}; the tokenizer changes passages", "none needed, unless much is not ASCII")


def chat_template(setup: Setup) -> Iterator[Result]:
    """The chat template renders a prompt; for tool calling also conversations, in calls that are read here."""
    tokenizer = setup.tokenizer
    config = setup.config
    if not getattr(tokenizer, "chat_template", None):
        fix = "use a checkpoint with a chat template: prompts are rendered with it (--apply-chat-template)"
        yield failed("chat template", "the tokenizer has none", fix)
        return
    if not setup.calls_tools:
        prompt = TokenCodec(tokenizer).prompt([{"role": "user", "content": "Who?"}])
        yield passed("chat template", f"renders a prompt ({len(prompt)} tokens around one word)")
        return
    named = None if config.chat.notation == "auto" else config.chat.notation
    try:
        frame = ChatTemplate(tokenizer, TOOL_SCHEMAS, config.chat.template_kwargs, named).frame
    except ConfigError as error:
        usual = "see docs/tool-calling.md for the models that work"
        yield failed("chat template", error.found, error.fix or usual)
        return
    keeps = (
        "prefix-preserving"
        if frame.keeps_turns
        else "not prefix-preserving (it drops earlier thoughts); turns are appended here and never rendered again"
    )
    if frame.readable_calls or named:
        yield passed("chat template", f"{keeps}; calls are read as {frame.notation}")
    else:
        yield warned(
            "chat template",
            f"{keeps}; writes calls in a notation that is not known here, so they count as malformed or as answers",
            "name the notation that the model was trained on (SLIME_SEARCH_CHAT__NOTATION=hermes; docs/tool-calling.md "
            "has the table), or use the tag recipe",
        )


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} billion" if parameters >= 1e8 else f"{parameters / 1e6:.2f} million"


CHECKS = (checkpoint, reference, tokenizer, chat_template, tags)
