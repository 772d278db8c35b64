"""What a rehearsal says after each of its stages: what a run on GPUs does the same, and what it does otherwise."""

from collections.abc import Mapping

ON_GPUS: Mapping[str, str] = {
    "installation": "A run on GPUs needs the same checkouts and packages, and finds them in slime's image. Transformer "
    "Engine and flash attention are there as well.",
    "policy": "A run on GPUs starts from a pre-trained model instead, which convert_model.sh has made a Megatron "
    "checkpoint of. slime reads this one as it is.",
    "services": "Retriever, SGLang and router are the same programs on GPUs, where slime starts engine and router "
    "itself. SGLang then keeps prefixes, captures CUDA graphs and has one process a GPU.",
    "doctor": "Run the doctor as well before a run on GPUs, with your own model and data; it then has to pass whole.",
    "before": "On GPUs the same command scores a real checkpoint on real test sets.",
    "training": "Hooks, rollouts, advantages, loss, checkpoints and logs are slime's and this package's, as on GPUs. "
    "Otherwise are: the kernels of a layer, gloo for NCCL, weights by disk, one rank and a rate of learning for so "
    "small a model.",
    "export": "On GPUs --save-hf or slime's tools/convert_torch_dist_to_hf.py leave such a folder. Only this tiny "
    "model needs its biases put back.",
    "after": "On GPUs the intervals are as wide for as many questions. How fast a large model learns, this does not "
    "tell.",
    "records": "The same two commands read the dumps and TensorBoard files of a run on GPUs, also while it goes on.",
}
