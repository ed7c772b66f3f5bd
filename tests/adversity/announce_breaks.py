"""Faults of the relay, one for each count of a run: with the fault, the count must not be 0.

Those of the store are another text of one of its functions, those of the relay a few lines that run in it first.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from storage.commerce.schema import MONEY_SCHEMA


@dataclass(frozen=True)
class Break:
    """What is broken, and the count that must say so."""

    count: str
    function: str = ""
    edits: tuple[tuple[str, str], ...] = ()
    prelude: str = ""

    async def apply_to(self, books: asyncpg.Connection) -> None:
        """Put the broken function in the place of the right one."""
        if not self.function:
            return
        text = MONEY_SCHEMA.functions.render_all()[self.function]
        for before, after in self.edits:
            assert text.count(before) == 1, f"{self.function} has changed: write the fault anew"
            text = text.replace(before, after)
        await books.execute(text.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION") + MONEY_SCHEMA.grants)


BREAKS = {
    "a number is forgotten before it is answered": Break(
        "doubled",
        function="lease_places",
        edits=(
            (
                "    WITH waiting AS MATERIALIZED (",
                """    UPDATE announcements SET n = NULL WHERE place_no = ANY (v_leased);
    WITH waiting AS MATERIALIZED (""",
            ),
        ),
    ),
    "what is numbered counts as taken": Break(
        "missing",
        function="settle_place",
        edits=(
            (
                "    UPDATE announcements a\n    SET done = CASE",
                """    UPDATE announcements SET done = sent, n = NULL WHERE place_no = p_place AND n IS NOT NULL;
    UPDATE announcements a\n    SET done = CASE""",
            ),
        ),
    ),
    "the version that was spread last is the newest": Break(
        "misordered",
        function="spread_versions",
        edits=(
            ("ORDER BY x.outbox_no LIMIT p_limit", "ORDER BY x.outbox_no DESC LIMIT 1"),
            ("version = excluded.version,", "version = excluded.version, done = 0,"),
            ("WHERE excluded.version > a.version", ""),
        ),
    ),
    "a member sees what the payee sees": Break(
        "leaked",
        prelude="from server.relay import place_notices as notices\n"
        "right = notices._for_members\n"
        "def for_members(version):\n"
        "    notices._for_members = right\n"
        "    try:\n"
        "        return notices._for_party(version.payee, version)\n"
        "    finally:\n"
        "        notices._for_members = for_members\n"
        "notices._for_members = for_members",
    ),
    "every dialog counts as open": Break(
        "leaked",
        prelude="from server.relay.chat_api import ChatApi\n"
        "async def never(self, dialog):\n    return False\n"
        "ChatApi.is_sealed = never",
    ),
    "nobody is judged as who began it": Break(
        "leaked",
        prelude="from server.relay import chat_api, place_notices as notices\n"
        "right = notices.make_event\n"
        "def make_event(place, row, *, sealed):\n"
        "    event = right(place, row, sealed=sealed)\n"
        "    event.pop('requester', None)\n"
        "    return event\n"
        "chat_api.make_event = make_event",
    ),
}
