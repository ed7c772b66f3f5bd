"""The `World` of the conformance suite on the database in memory."""

from __future__ import annotations

import itertools
from typing import NoReturn

from protocol.ids import new_id
from storage.rows import PrincipalType
from tests.simulation.database import Conditions, Database
from tests.simulation.journal import MemoryJournal
from tests.simulation.reading import MemoryTimelines
from tests.simulation.tables import NotSimulatedError
from tests.support.clock import ManualClock
from tests.support.world import Person, World


class SteppingClock(ManualClock):
    """A clock that is a millisecond later each time one looks, as with a database that takes its time."""

    def wall_ms(self) -> int:
        self.advance(0.001)
        return super().wall_ms()


class MemoryWorld(World):
    """People and dialogs in memory. There is no SQL here: a test that needs it is not for this engine."""

    def __init__(self) -> None:
        self.database = Database(SteppingClock(), Conditions())
        self.journal = MemoryJournal(self.database)  # type: ignore[assignment]
        self.timelines = MemoryTimelines(self.database)  # type: ignore[assignment]
        self.incarnation = self.database.begin_incarnation("test")
        self._flush_numbers = itertools.count(1)

    @property
    def pool(self) -> NoReturn:  # type: ignore[override]
        """There is none."""
        raise NotSimulatedError("SQL")

    async def person(self, kind: int = 1, *, tenant: int = 1) -> Person:
        if tenant != 1:
            raise NotSimulatedError("tenants")
        person = Person(new_id())
        self.database.principals[person.principal] = PrincipalType(kind)
        await self.another_sign_in(person)
        return person

    async def another_sign_in(self, person: Person) -> None:
        self.database.sign_ins[person.sign_in] = person.principal

    async def close(self) -> None:
        self.database.down = True
