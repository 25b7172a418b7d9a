"""Plugin of pytest: the tests run with the emulated device in the place of CUDA."""

from tests.emulated_cuda.device import install

install()
