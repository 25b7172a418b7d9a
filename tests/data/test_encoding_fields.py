"""The values of an encoding are checked one by one."""

from typing import Any

import pytest

from bnn_pyro.data.encoding_fields import check_encoding

SOUND: dict[str, Any] = {
    "form": 1,
    "columns": [
        {"kind": "number", "name": "size", "fill": 0.5, "missing": False},
        {"kind": "levels", "name": "colour", "levels": ["red"], "other": False, "missing": True},
    ],
    "means": [0.0],
    "stds": [1.0],
    "ignored": [],
    "target": {"name": "price", "mean": 0.0, "std": 1.0, "classes": None},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": 2}, "'form' in the encoding must be the number of the form, 1, got 2"),
        ({"columns": {}}, "'columns' in the encoding must be a list of values by name"),
        ({"columns": [{**SOUND["columns"][0], "kind": "x"}]}, "'kind' in column 0 of the encoding must be one of"),
        (
            {"columns": [{**SOUND["columns"][0], "fill": None}]},
            "'fill' in column 0 .* must be a finite number",
        ),
        ({"columns": [{**SOUND["columns"][0], "more": 1}]}, "column 0 of the encoding must have no field 'more'"),
        ({"means": [None]}, "'means' in the encoding must be a list of finite numbers"),
        ({"stds": [0.0]}, "'stds' in the encoding must be a list of positive finite numbers"),
        ({"ignored": 3}, "'ignored' in the encoding must be a list of texts, got 3"),
        ({"target": []}, "'target' in the encoding must be values by name"),
        ({"target": {**SOUND["target"], "std": -1}}, "'std' in the target of the encoding must be a positive finite"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    check_encoding(SOUND, form=1)
    with pytest.raises(ValueError, match=message):
        check_encoding({**SOUND, **changes}, form=1)
