"""A CUDA device without a GPU, for the tests; see the README beside this file."""
