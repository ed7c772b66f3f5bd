"""What the ledger answered to racers, kept outside of it: in a file, from which the audit reads it at the end.

An answer is compared with the first one to its key at once; whether it is true of the tables is the audit's to say.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from storage.commerce.money_rows import Answer, NewPaymentRow, StepKey, StepOutcome

RECENT_MAX = 5_000
_ERRORS_SHOWN = 5


@dataclass(eq=False, slots=True)
class Call:
    """A step under a key. `total` and `legs` are what a chain moves when it is done, 0: a step of a payment.

    `legs` 0 beside a `total`: one transfer or two, which sum up to it.
    """

    key: StepKey
    ask: Callable[[StepKey], Awaitable[Answer]]
    legs: int = 0
    total: int = 0
    new: NewPaymentRow | None = None
    answer: Answer | None = None


class Told:
    """Counts and the file of answers; the calls that were answered last, for late copies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.operations = 0
        self.counts: Counter[str] = Counter()
        """`doubled` and `deadlocks` as far as racers see them, `errors`: calls that got no answer but an error."""
        self.outcomes: Counter[StepOutcome] = Counter()
        self.errors: list[str] = []
        self.recent: deque[Call] = deque(maxlen=RECENT_MAX)
        self._file: TextIO = path.open("w")

    def note(self, answered: Sequence[tuple[Call, Answer]]) -> Call | None:
        """Answers to copies under one key, all there are or later ones: the call that the key stands for.

        Copies of that call have one answer, others under its key are KEY_REUSED.
        """
        known = next((call for call, _ in answered if call.answer is not None), None)
        winner = known
        for call, answer in answered:
            if answer.outcome is StepOutcome.KEY_REUSED:
                continue
            if winner is None:
                winner, call.answer = call, answer
            self.counts["doubled"] += call is not winner or call.answer != answer
        if winner is not None and known is None:
            self._write(winner)
        reused = [call for call, answer in answered if answer.outcome is StepOutcome.KEY_REUSED]
        self.counts["doubled"] += winner is None or winner in reused
        return winner

    def note_error(self, error: Exception) -> None:
        """A call failed in a way that a repetition does not cure."""
        self.counts["errors"] += 1
        if len(self.errors) < _ERRORS_SHOWN:
            self.errors.append(str(error))

    def close(self) -> Path:
        """Nothing more is answered; the file, a line for each key."""
        self._file.close()
        return self.path

    def _write(self, call: Call) -> None:
        assert call.answer is not None
        answer = call.answer
        self.outcomes[answer.outcome] += 1
        subject = "" if answer.subject is None else answer.subject.hex()
        version = "" if answer.version is None else answer.version
        detail = "" if answer.detail is None else answer.detail
        asked = f"{call.legs},{call.total}"
        self._file.write(f"{call.key.key_id.hex()},{int(answer.outcome)},{subject},{version},{detail},{asked}\n")
        self.recent.append(call)
