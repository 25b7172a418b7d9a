"""Options out of range are refused with their name, the rule and the value."""

import pytest

from guides.checks import check_choice, check_range


def test_choices() -> None:
    check_choice("gates", "hard", ("hard", "relaxed"))
    with pytest.raises(ValueError, match="gates must be one of hard, relaxed, got 'soft'"):
        check_choice("gates", "soft", ("hard", "relaxed"))


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, float("nan")])
def test_ranges_are_open(value: float) -> None:
    check_range("init_inclusion", 0.5, 0, 1)
    with pytest.raises(ValueError, match=r"init_inclusion must lie in \(0, 1\), got"):
        check_range("init_inclusion", value, 0, 1)
