"""What does not keep a node from serving, and must be looked at, is in the answer of /readyz."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from server.node.trouble import find_trouble


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, ""),
        ({"set_aside": 2}, "dialogs are set aside, because the database does not answer for them: 2"),
        ({"age_s": 11.0}, "clients' positions are 11 s old"),
        ({"behind_s": 16.0, "slowest": "node x (incarnation 3)"}, "node x (incarnation 3) has not been heard for 16 s"),
        (
            {"token": ""},
            "Redis does not have this node's connections, so what other nodes write comes later, from PostgreSQL",
        ),
        ({"lag_s": 601.0}, "the archive is 601 s behind"),
        (
            {"set_aside": 1, "lag_s": 700.0},
            "dialogs are set aside, because the database does not answer for them: 1; the archive is 700 s behind",
        ),
    ],
)
def test_each_trouble_is_said(values: dict[str, Any], text: str) -> None:
    part: Any = SimpleNamespace(
        **{"set_aside": 0, "age_s": 1.0, "behind_s": 1.0, "slowest": "", "lag_s": 1.0, "token": "t", **values}
    )
    part.whereabouts = part
    assert find_trouble(part, part, part, part, part) == text


def test_parts_that_a_node_lacks_are_no_trouble() -> None:
    part: Any = SimpleNamespace(set_aside=0, age_s=0.0)
    assert find_trouble(part, part, None, None, None) == ""
