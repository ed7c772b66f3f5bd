"""A refusal of identity: a code of the catalogue, what is wrong, and when to try again."""

from __future__ import annotations

from protocol.errors import ErrorCode


class IdentityError(Exception):
    """Something was refused; `retry_after_s` comes with what time cures."""

    def __init__(self, code: ErrorCode, detail: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
