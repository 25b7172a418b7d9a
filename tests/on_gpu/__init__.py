"""The library's uses on a CUDA device: a real one, or the emulated one of ``tests/emulated_cuda``."""
