"""The windows of a warm-up: stretches of it at whose ends the mass matrix is set to what was drawn in them."""

WINDOWS = (0.1, 0.25, 0.5, 0.8)
"""The parts of the warm-up after which a window ends; in what is left after the last the mass matrix stays."""


def window_of(number: int, transitions: int) -> int:
    """Return the window that a transition belongs to, from 0.

    Args:
        number: Which transition, from 1.
        transitions: How many the warm-up has.
    """
    return sum(end < number for end in _ends(transitions))


def ends_window(number: int, transitions: int) -> bool:
    """Return whether a transition is the last one of a window; the very last one ends none, as nothing would follow.

    Args:
        number: Which transition, from 1.
        transitions: How many the warm-up has.
    """
    return number < transitions and number in _ends(transitions)


def _ends(transitions: int) -> list[int]:
    return [round(part * transitions) for part in WINDOWS]
