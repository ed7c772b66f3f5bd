"""The load `talk`: messages in dialogs, written by some of their members."""

from __future__ import annotations

from loadtest.crowd import Crowd
from loadtest.lean_client import LoadError
from loadtest.loads import Share, Times, settle_deliveries
from loadtest.pieces import Payload
from loadtest.scenario import TalkLoad
from loadtest.sealed_dialogs import list_devices, share_sessions
from loadtest.tally import Tally
from loadtest.traffic import Traffic
from protocol.dialog_types import Mode

_TIMED_PER_DIALOG = 2


class Talking:
    """One worker's part of it."""

    def __init__(self, spec: TalkLoad, crowd: Crowd, tally: Tally, share: Share, ramp_s: float) -> None:
        """Raises LoadError if the people of this worker are too few."""
        people, size = len(crowd.people), spec.dialog_size
        if not spec.writers <= size <= people:
            cannot = f"A worker of {people} people cannot have {spec.writers} writers in dialogs of {size}"
            raise LoadError(f"{cannot}: use more --people, or fewer --workers.")
        self._spec = spec
        self._crowd = crowd
        self._tally = tally
        self._share = share
        self._ramp_s = ramp_s
        self._traffic: Traffic

    async def prepare(self) -> None:
        payload = Payload(self._spec.payload_bytes)
        if self._spec.sealed:
            self._crowd.mode = Mode.SEALED
            await list_devices(self._crowd.people)
        await self._gather()
        if self._spec.sealed:
            await share_sessions(self._crowd, payload.make(0))
        made = self._crowd.gatherings
        for each in made:
            for member in each.members[-_TIMED_PER_DIALOG:]:
                member.timed = True
        places = [(each.members[number], each.dialog) for number in range(self._spec.writers) for each in made]
        self._traffic = Traffic(places, payload)

    async def _gather(self) -> None:
        people, size = self._crowd.people, self._spec.dialog_size
        if size == 2:
            await self._crowd.gather_pairs(list(zip(people[::2], people[1::2], strict=False)))
        else:
            await self._crowd.gather_groups(size, dialogs=self._spec.dialogs)

    async def run(self, times: Times) -> None:
        spec, share = self._spec, self._share
        if spec.rate:
            offset_s = share.number / spec.rate
            await self._traffic.open_loop(spec.rate / share.of, times, ramp_s=self._ramp_s, offset_s=offset_s)
        else:
            await self._traffic.closed_loop(times)

    async def settle(self) -> None:
        await settle_deliveries(self._crowd, self._tally)
