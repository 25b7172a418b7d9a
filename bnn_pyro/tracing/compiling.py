"""compiling: what torch's compiler warns its own developers of is not shown to its users."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def compiling() -> Iterator[None]:
    """Leave out the FutureWarnings of torch's own code while it compiles, as of ``_prims_common.check`` in torch 2.15.

    They are of functions that the compiler calls itself, and nobody who compiles a model can act on them; those of
    other modules are shown.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
        warnings.filterwarnings("ignore", r".*_prims_common\.check", FutureWarning)
        yield
