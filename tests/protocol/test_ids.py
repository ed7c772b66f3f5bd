"""Ids: 16 bytes that are valid UUIDs, in order of their making, and derived ones that everybody derives alike."""

from __future__ import annotations

from uuid import UUID

import pytest

from protocol import ids
from tests.support.scripted import ANN, BOB, DEVICE


def test_a_new_id_is_a_uuid_of_version_seven() -> None:
    value = UUID(bytes=ids.new_id())
    assert (value.version, value.variant) == (7, "specified in RFC 4122")


def test_new_ids_differ_and_rise_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({ids.new_id() for _ in range(1000)}) == 1000
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)
    earlier = ids.new_id()
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.001)
    assert earlier < ids.new_id()


def test_a_derived_id_is_a_uuid_of_version_eight() -> None:
    for value in (ids.self_dialog_id(ANN), ids.direct_dialog_id(ANN, BOB), ids.created_dialog_id(DEVICE, 1)):
        assert UUID(bytes=value).version == 8


def test_a_pair_has_one_direct_dialog() -> None:
    assert ids.direct_dialog_id(ANN, BOB) == ids.direct_dialog_id(BOB, ANN)


def test_what_is_derived_depends_on_every_part() -> None:
    derived = [
        ids.self_dialog_id(ANN),
        ids.self_dialog_id(BOB),
        ids.direct_dialog_id(ANN, BOB),
        ids.direct_dialog_id(ANN, DEVICE),
        ids.created_dialog_id(DEVICE, 1),
        ids.created_dialog_id(DEVICE, 2),
        ids.created_dialog_id(ANN, 1),
    ]
    assert len(set(derived)) == len(derived)


def test_derived_ids_never_change() -> None:
    """They name dialogs that exist: a change here loses them."""
    assert ids.to_text(ids.self_dialog_id(ANN)) == SELF_OF_ANN
    assert ids.to_text(ids.direct_dialog_id(ANN, BOB)) == DIRECT_OF_BOTH
    assert ids.to_text(ids.created_dialog_id(DEVICE, 7)) == SEVENTH


def test_text_and_back() -> None:
    value = ids.new_id()
    assert ids.from_text(ids.to_text(value)) == value
    assert ids.from_text(ids.to_text(value).upper()) == value


@pytest.mark.parametrize(
    "text", ["", "x", "5be1d0a244c38f6b9a073c4d5e6f7a8b", "{5be1d0a2-44c3-8f6b-9a07-3c4d5e6f7a8b}"]
)
def test_what_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"UUID|hexadecimal"):
        ids.from_text(text)


SELF_OF_ANN = "547294c1-f5f7-8525-be4a-1b3724488cd2"
DIRECT_OF_BOTH = "0f274d63-0c5b-8652-a872-885c156b768f"
SEVENTH = "e1590072-1fab-865d-961c-97a0b00e2c0a"
