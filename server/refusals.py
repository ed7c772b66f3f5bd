"""A refusal with a code of the catalogue, and the code that each verdict of storage becomes."""

from __future__ import annotations

from protocol.errors import ErrorCode
from storage.rows import Verdict, VerdictCode


class RequestRefusedError(Exception):
    """A command or an HTTP request is refused; `retry_after_s` is set when the same request may succeed later."""

    def __init__(self, code: ErrorCode, detail: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s


def sentence_of(code: ErrorCode, detail: str) -> str:
    """What a refusal says to people."""
    return f"{code.sentence} ({detail})" if detail else code.sentence


RETRY_AFTER_S = 1.0
"""How long a client waits before it retries a temporary failure, when nothing gives a better estimate."""

DURABLE = frozenset({VerdictCode.OK, VerdictCode.DUPLICATE})

ERROR_OF: dict[VerdictCode, ErrorCode] = {
    VerdictCode.CONFLICT: ErrorCode.CONFLICT,
    VerdictCode.NUMBER_PASSED: ErrorCode.NUMBER_PASSED,
    VerdictCode.STALE: ErrorCode.STALE,
    VerdictCode.NOT_SEALED: ErrorCode.INVALID_ARGUMENT,
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
    VerdictCode.NOT_ALLOWED: ErrorCode.NOT_ALLOWED,
    VerdictCode.SIGNATURE_REQUIRED: ErrorCode.SIGNATURE_REQUIRED,
    VerdictCode.CONSENT_REQUIRED: ErrorCode.CONSENT_REQUIRED,
    VerdictCode.DIALOGS_BOUND: ErrorCode.DIALOGS_BOUND,
    VerdictCode.INVITATIONS_BOUND: ErrorCode.INVITATIONS_BOUND,
    VerdictCode.DAILY_LIMIT: ErrorCode.DAILY_LIMIT,
    VerdictCode.BUSY: ErrorCode.UNAVAILABLE,
    VerdictCode.UNAVAILABLE: ErrorCode.UNAVAILABLE,
    VerdictCode.TARGET_ARCHIVED: ErrorCode.UNAVAILABLE,
    VerdictCode.INTERNAL: ErrorCode.INTERNAL,
}
"""The error code of every verdict that is not DURABLE."""


DETAIL_OF = {
    VerdictCode.NOT_SEALED: "the dialog is sealed: encrypt, and set `session` and `commitment` alone in the header"
}
"""What the sentence of the error code leaves open."""


def check_durable(verdict: Verdict) -> None:
    """Raise RequestRefusedError unless the verdict says that the entry is durable."""
    if verdict.code not in DURABLE:
        code = ERROR_OF[verdict.code]
        raise RequestRefusedError(
            code, DETAIL_OF.get(verdict.code, ""), retry_after_s=RETRY_AFTER_S if code.temporary else None
        )
