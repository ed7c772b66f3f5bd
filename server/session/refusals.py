"""A refusal inside a handler, and what each verdict of the store means to a client."""

from __future__ import annotations

from protocol.errors import ErrorCode
from storage.rows import VerdictCode


class RefusedError(Exception):
    """A command is refused with a code of the catalogue."""

    def __init__(self, code: ErrorCode, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


RETRY_AFTER_S = 1.0
"""What a client is told to wait when there is nothing to calculate it from."""

DURABLE = frozenset({VerdictCode.OK, VerdictCode.DUPLICATE})

ERROR_OF: dict[VerdictCode, ErrorCode] = {
    VerdictCode.CONFLICT: ErrorCode.CONFLICT,
    VerdictCode.NUMBER_PASSED: ErrorCode.NUMBER_PASSED,
    VerdictCode.STALE: ErrorCode.STALE,
    VerdictCode.NOT_FOUND: ErrorCode.DIALOG_NOT_FOUND,
    VerdictCode.ROLE_REQUIRED: ErrorCode.ROLE_REQUIRED,
    VerdictCode.BLOCKED: ErrorCode.BLOCKED,
    VerdictCode.SUSPENDED: ErrorCode.SUSPENDED,
    VerdictCode.EVENT_NOT_FOUND: ErrorCode.EVENT_NOT_FOUND,
    VerdictCode.PRINCIPAL_NOT_FOUND: ErrorCode.PRINCIPAL_NOT_FOUND,
    VerdictCode.MEMBERS_BOUND: ErrorCode.MEMBERS_BOUND,
    VerdictCode.ALREADY_MEMBER: ErrorCode.ALREADY_MEMBER,
    VerdictCode.NOT_MEMBER: ErrorCode.NOT_MEMBER,
    VerdictCode.LAST_ADMIN: ErrorCode.LAST_ADMIN,
    VerdictCode.FIXED_ROSTER: ErrorCode.FIXED_ROSTER,
    VerdictCode.BUSY: ErrorCode.UNAVAILABLE,
    VerdictCode.UNAVAILABLE: ErrorCode.UNAVAILABLE,
    VerdictCode.INTERNAL: ErrorCode.INTERNAL,
}
"""Of every verdict that is not DURABLE."""
