"""The base of every command; and what holds for one beside its fields: its rule, and the two common forms of one."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import msgspec

from protocol import bodies as b
from protocol.errors import ErrorCode
from protocol.limits import N_MAX
from protocol.states import SessionState

RequestId = Annotated[int, msgspec.Meta(ge=0, le=N_MAX)]


class Timeline(enum.Enum):
    """In which timeline a numbered command appends its body."""

    NAMED = "the dialog it names"
    CREATED = "the dialog it creates"
    SELF = "the `self` dialog"
    INVITED = "the `self` dialog of the invited member"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRule:
    """What holds for a command beside its fields.

    A command that `appends` a body is *numbered*: it has a field `n`. A `pipelined` command does not wait for the
    answers to those before it. `cost` counts against the rate of commands of a session; pipelined commands have a rate
    of their own. `codes` are the refusals that are possible beside `EVERY_COMMAND`.
    """

    states: frozenset[SessionState]
    appends: type[b.Body] | None = None
    timeline: Timeline = Timeline.NAMED
    pipelined: bool = False
    cost: Callable[[Any], int] = lambda _command: 1
    codes: frozenset[ErrorCode] = frozenset()


class Command(msgspec.Struct, array_like=True, frozen=True, tag_field="tag", gc=False):
    """The base of every command; `id` is its first field."""

    rule: ClassVar[CommandRule]

    id: RequestId


FROM_THE_START = frozenset(SessionState)
WHEN_LIVE = frozenset({SessionState.LIVE})

EVERY_COMMAND = frozenset({ErrorCode.MALFORMED, ErrorCode.WRONG_STATE})
"""The refusals that any command may be answered with."""

READ_CODES = frozenset({ErrorCode.DIALOG_NOT_FOUND, ErrorCode.UNAVAILABLE})
_NUMBERED_CODES = frozenset(
    {
        ErrorCode.CONFLICT,
        ErrorCode.NUMBER_PASSED,
        ErrorCode.DIALOG_NOT_FOUND,
        ErrorCode.SUSPENDED,
        ErrorCode.EARLIER_FIRST,
        ErrorCode.UNAVAILABLE,
        ErrorCode.INTERNAL,
    }
)


def content_rule(appends: type[b.Body], *codes: ErrorCode) -> CommandRule:
    """A pipelined command: an envelope, its edit, or a reaction to it."""
    may = _NUMBERED_CODES | {ErrorCode.ROLE_REQUIRED, ErrorCode.BLOCKED, ErrorCode.EVENT_NOT_FOUND, *codes}
    return CommandRule(states=WHEN_LIVE, appends=appends, pipelined=True, codes=may)


def change_rule(
    appends: type[b.Body],
    *codes: ErrorCode,
    timeline: Timeline = Timeline.NAMED,
    cost: Callable[[Any], int] = lambda _command: 1,
) -> CommandRule:
    """A command that changes a dialog, its roster, or the author's own state; it ends before the next one starts."""
    return CommandRule(
        states=WHEN_LIVE, appends=appends, timeline=timeline, cost=cost, codes=_NUMBERED_CODES | {*codes}
    )
