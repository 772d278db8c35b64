"""An inference server for tiny models on a CPU that speaks SGLang's HTTP protocol."""
