"""What is declared is in its union: a struct outside of it is never decoded and on no page."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from protocol.bodies import AnyBody, Body
from protocol.events import AnyEvent, Event
from protocol.replies import AnyReply, Reply


@pytest.mark.parametrize(
    ("base", "union"),
    [(Body, AnyBody), (Reply, AnyReply), (Event, AnyEvent)],
    ids=["bodies", "replies", "events"],
)
def test_every_struct_is_in_its_union(base: type[msgspec.Struct], union: Any) -> None:
    assert set(base.__subclasses__()) == {arm for arm in get_args(union) if issubclass(arm, base)}
