"""One thing that `tchat doctor` has looked at."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at: `note` is worth knowing, `problem` prevents or endangers a server."""

    level: Literal["ok", "note", "problem"]
    subject: str
    text: str

    @property
    def is_problem(self) -> bool:
        """Whether something must be done."""
        return self.level == "problem"

    def __str__(self) -> str:
        return f"{self.level:8}{self.subject}: {self.text}"
