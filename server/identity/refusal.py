"""A refusal of identity: a code of the catalogue, what is wrong, and when to try again."""

from __future__ import annotations

from protocol.errors import ErrorCode
from server.refusals import DURABLE, ERROR_OF, RETRY_AFTER_S
from storage.rows import Verdict


class IdentityError(Exception):
    """Something was refused; `retry_after_s` comes with what time cures."""

    def __init__(self, code: ErrorCode, detail: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s


def check_durable(verdict: Verdict) -> None:
    """Raise IdentityError unless the verdict says that what was appended is durable."""
    if verdict.code not in DURABLE:
        code = ERROR_OF[verdict.code]
        raise IdentityError(code, retry_after_s=RETRY_AFTER_S if code.temporary else None)
