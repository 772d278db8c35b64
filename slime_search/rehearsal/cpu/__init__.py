"""What slime's processes need in order to run without a GPU. Nothing of slime, Megatron or SGLang is changed on disk.

A process gets it by ``path/`` on its PYTHONPATH: ``sitecustomize`` there installs ``import_hook``, which completes
modules as they are imported. The other names in ``path/`` stand in for packages that are built for GPUs alone.
"""
