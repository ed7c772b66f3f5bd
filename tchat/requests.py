"""Commands without a number on their way: what the app asks for, and the history that the core reads for itself.

A request of the app survives a reconnect and is asked again, except one that must not be repeated. What the core asks
for itself is dropped at a disconnect: `ordering` asks for it again.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from protocol.command_rules import Command
from protocol.commands import Authenticate, History, SignOut
from tchat.actions import TooManyRequestsError
from tchat.ordering import Gap

REQUESTS_MAX = 100
_NOT_REPEATED = (Authenticate, SignOut)


@dataclass(frozen=True, slots=True)
class _Request:
    """`purpose` is the handle of the app's request, or what the core looks for."""

    command: Command
    purpose: int | Gap


class Requests:
    """The requests of a client over one connection after another."""

    def __init__(self) -> None:
        self._handles = itertools.count(1)
        self._waiting: deque[_Request] = deque()
        self._asked: dict[int, _Request] = {}

    def submit(self, command: Command) -> int:
        """Queue a request of the app; its handle. `TooManyRequestsError` if REQUESTS_MAX await their answers."""
        if len(self._waiting) + len(self._asked) >= REQUESTS_MAX:
            raise TooManyRequestsError
        handle = next(self._handles)
        self._waiting.append(_Request(command, handle))
        return handle

    def read(self, history: History, purpose: Gap) -> None:
        """Queue a page of history that the core needs."""
        self._waiting.append(_Request(history, purpose))

    def take_due(self, request_id: Iterator[int]) -> Iterator[Command]:
        """The commands to write now, in order, each with a fresh request id."""
        while self._waiting:
            request = self._waiting.popleft()
            key = next(request_id)
            self._asked[key] = request
            yield msgspec.structs.replace(request.command, id=key)

    def answered(self, request_id: int) -> int | Gap | None:
        """The purpose of the request that a reply answers; None if the reply is to something else."""
        request = self._asked.pop(request_id, None)
        return None if request is None else request.purpose

    def disconnected(self) -> list[int]:
        """Queue what was asked again; returns the handles of the requests that are lost instead."""
        asked, self._asked = [*self._asked.values(), *self._waiting], {}
        mine = [(request, request.purpose) for request in asked if isinstance(request.purpose, int)]
        self._waiting = deque(request for request, _ in mine if not isinstance(request.command, _NOT_REPEATED))
        return [handle for request, handle in mine if isinstance(request.command, _NOT_REPEATED)]
