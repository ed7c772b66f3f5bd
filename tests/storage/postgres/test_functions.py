"""The SQL functions: every name has its number, every change its function."""

from __future__ import annotations

import re

import asyncpg
import pytest

from protocol.bodies import DevicesChanged, ProfileChanged
from protocol.commands import COMMANDS
from storage.identity_rows import SIGN_IN_AUDIT_KEPT_MS
from storage.postgres import functions
from storage.postgres.journal import CHANGE_QUERIES
from storage.postgres.migrate import FUNCTIONS, is_current, migrate

NAMED = re.compile(r"\b(tag|code|type|status|role|mode|kind|outcome|revoked_why)\s*(<>|:?=|IN \()\s*\d")
"""A number where Python has a name."""


def test_a_place_gets_the_number_of_its_name() -> None:
    assert functions.CHAT.render("code = ${VerdictCode.STALE}, tag = ${tag.Edited}") == "code = 4, tag = 2"


def test_a_place_gets_the_stored_bytes_of_a_body() -> None:
    assert functions.CHAT.render("${packed.Erased}") == r"'\x9105'::bytea"
    assert functions.CHAT.render("${packed_with_id.Promoted}") == r"'\x920ec410'::bytea"


def test_a_place_gets_a_constant() -> None:
    assert functions.CHAT.render("${SIGN_IN_AUDIT_KEPT_MS}") == str(SIGN_IN_AUDIT_KEPT_MS)


@pytest.mark.parametrize(
    "place", ["Verdict.STALE", "VerdictCode.STALLED", "tag.Nothing", "packed.Nothing", "STALE", ""]
)
def test_an_unknown_name_is_an_error(place: str) -> None:
    with pytest.raises(LookupError):
        functions.CHAT.render(f"${{{place}}}")


def test_every_change_of_a_command_and_of_the_server_has_its_function() -> None:
    appended = {command.rule.appends for command in COMMANDS if not command.rule.pipelined} - {None}
    assert set(CHANGE_QUERIES) == appended | {DevicesChanged, ProfileChanged}


@pytest.mark.parametrize("name", functions.CHAT.list_names())
def test_a_file_creates_the_one_function_that_it_is_named_after(name: str) -> None:
    text = functions.CHAT.read(name)
    assert re.findall(r"CREATE (?:OR REPLACE )?FUNCTION (\w+)\(", text) == [name]


@pytest.mark.parametrize("name", functions.CHAT.list_names())
def test_no_function_has_a_number_that_has_a_name(name: str) -> None:
    assert not NAMED.search(functions.CHAT.read(name))


@pytest.mark.anyio
async def test_a_changed_text_is_applied_and_what_is_no_more_is_dropped(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("CREATE FUNCTION of_yesterday(int) RETURNS int LANGUAGE sql AS 'SELECT $1'")
        await connection.execute("CREATE FUNCTION of_others(int) RETURNS int LANGUAGE sql AS 'SELECT $1'")
        await connection.execute("DROP FUNCTION unix_ms(); CREATE FUNCTION unix_ms(int) RETURNS int RETURN 1")
        await connection.execute("UPDATE applied_functions SET digest = '', names = names || 'of_yesterday'::text")
        assert not await is_current(connection)
        assert await migrate(database_url) == [FUNCTIONS]
        assert await is_current(connection)
        assert await connection.fetchval("SELECT unix_ms()") > 0
        left = await connection.fetch("SELECT proname FROM pg_proc WHERE proname LIKE 'of_%' OR proname = 'unix_ms'")
        assert sorted(row[0] for row in left) == ["of_others", "unix_ms"]
    finally:
        await connection.close()
