"""The command with which a receiver shows moderators what a sealed message contained."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from protocol.bodies import Seq
from protocol.command_rules import WHEN_LIVE, Command, CommandRule
from protocol.errors import ErrorCode
from protocol.ids import Id
from protocol.limits import REPORT_REASON_CHARS_MAX, SEALED_CONTENT_BYTES_MAX


class Report(Command, tag=107, frozen=True):
    """Report a sealed message, edit or reaction to the moderators of the platform.

    `key` and `content` are what the client found in it when it opened it: the server compares them with the
    `commitment` of the event, also for a month after it was erased. Only moderators can read what is kept of a report.
    The same report again changes nothing.
    """

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        cost=lambda command: 5 + len(command.content) // 4096,
        codes=frozenset(
            {
                ErrorCode.DIALOG_NOT_FOUND,
                ErrorCode.EVENT_NOT_FOUND,
                ErrorCode.REPORT_REFUSED,
                ErrorCode.REPORTS_OFF,
                ErrorCode.RATE_LIMITED,
                ErrorCode.UNAVAILABLE,
            }
        ),
    )

    dialog: Id
    seq: Seq
    key: Annotated[bytes, msgspec.Meta(max_length=64)]
    content: Annotated[bytes, msgspec.Meta(max_length=SEALED_CONTENT_BYTES_MAX)]
    reason: Annotated[str, msgspec.Meta(max_length=REPORT_REASON_CHARS_MAX)] = ""
