"""Which sessions are here: by principal for the fan-out, by device because a device has one connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from protocol.close_codes import CloseCode

if TYPE_CHECKING:
    from server.session.session import Session

PresenceListener = Callable[[bytes, bool], None]


class Registry:
    """Sessions from their sync to their end. `version` changes whenever who is here changes.

    A session is attached, and told of everything, before it is known whether its sign-in goes on; only when it does
    may it take its device over from an older one.
    """

    def __init__(self) -> None:
        self.version = 0
        self.listener: PresenceListener = lambda _principal, _online: None
        self._by_principal: dict[bytes, list[Session]] = {}
        self._by_device: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._by_device)

    def __iter__(self) -> Iterator[Session]:
        return iter([session for here in self._by_principal.values() for session in here])

    def attach(self, session: Session) -> None:
        """Add a session; nothing happens if it is here."""
        claims = session.claims
        assert claims is not None
        here = self._by_principal.setdefault(claims.principal, [])
        if session in here:
            return
        here.append(session)
        self.version += 1
        if len(here) == 1:
            self.listener(claims.principal, True)

    def take_over(self, session: Session) -> None:
        """Make this, if it is still here, the one session of its device; an older one is closed as REPLACED."""
        claims = session.claims
        assert claims is not None
        if session not in self.of(claims.principal):
            return
        older = self._by_device.get(claims.device)
        self._by_device[claims.device] = session
        if older is not None and older is not session:
            older.close(CloseCode.REPLACED)

    def detach(self, session: Session) -> None:
        """Remove a session; nothing happens if it is not here."""
        claims = session.claims
        if claims is None:
            return
        if self._by_device.get(claims.device) is session:
            del self._by_device[claims.device]
        here = self._by_principal.get(claims.principal, [])
        if session not in here:
            return
        here.remove(session)
        self.version += 1
        if not here:
            del self._by_principal[claims.principal]
            self.listener(claims.principal, False)

    def of(self, principal: bytes) -> list[Session]:
        """The sessions of a principal; not to be changed."""
        return self._by_principal.get(principal, [])

    def online(self, principal: bytes) -> bool:
        """Whether any session of the principal is here."""
        return principal in self._by_principal

    def among(self, members: dict[bytes, int]) -> Iterable[tuple[bytes, list[Session]]]:
        """Who of `members` is here; costs the smaller of the two."""
        here = self._by_principal
        if len(members) <= len(here):
            return [(who, here[who]) for who in members if who in here]
        return [(who, sessions) for who, sessions in here.items() if who in members]

    def end_sign_in(self, sign_in: bytes, close_code: CloseCode, reason: str) -> None:
        """Close every session of a sign-in at once."""
        for session in self:
            if session.claims is not None and session.claims.sign_in == sign_in:
                session.close(close_code, reason)

    def end_principal(self, principal: bytes, close_code: CloseCode, reason: str) -> None:
        """Close every session of a principal at once."""
        for session in list(self.of(principal)):
            session.close(close_code, reason)
