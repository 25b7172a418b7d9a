"""compiling: what torch's compiler warns its own developers of is not shown to its users, and what it made is freed."""

import types
import warnings
import weakref
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


def forgotten_with(function: types.FunctionType) -> None:
    """Let go of what ``torch.compile`` makes of a function once nobody has the function any more.

    It would keep the program, with its constants and its example inputs, for the life of the process, 3 MB for a small
    network: the compiler's map from what it generated to the function's code holds the code, and the code the rest.

    Args:
        function: The function, with a code object of its own.
    """
    finalizer = weakref.finalize(function, _forget, function.__code__)
    finalizer.atexit = False


def _forget(code: types.CodeType) -> None:
    try:
        from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list, reset_code
    except ImportError:  # private names: without them the program stays
        return
    guards = [getattr(entry, "guard_manager", None) for entry in _debug_get_cache_entry_list(code)]
    reset_code(code)
    for manager in filter(None, guards):  # kept by finalizers of what never dies, such as torch's operations
        vars(manager).clear()
        vars(manager).update(cache_entry=None, extra_state=None)  # which the finalizers ask for
