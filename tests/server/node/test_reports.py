"""`tchat reports`: moderators make a key, see what was reported, and read it; nobody else does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from protocol.replies import Done
from server.config.settings import ReportSettings
from server.node import cli
from tests.support.harness import configured, running
from tests.support.sealed_group import SealedGroup

pytestmark = pytest.mark.anyio

TEXT = "ไป\x1b[2Jaway \u202e".encode()


@pytest.fixture
def public_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Of the pair whose private key is in `moderators.key` of the folder of the test."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reports", "key", "moderators.key"]) == 0
    assert (tmp_path / "moderators.key").stat().st_mode & 0o077 == 0
    section, line = capsys.readouterr().out.splitlines()
    assert section == "[reports]"
    return line.split('"')[1]


async def test_moderators_read_what_was_reported(
    database_url: str,
    public_key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TCHAT__STORAGE__POSTGRES_URL", database_url)
    async with running(database_url, configured(reports=ReportSettings(moderators_key=public_key))) as node:
        group = await SealedGroup.of_three(node.world)
        said = await group.post(group.members[0], TEXT)
        async with node.live(group.members[1]) as b:
            assert isinstance(await b.ask(said.report(5, "a threat")), Done)

        async def tchat(*arguments: str) -> tuple[int, str]:
            code = await asyncio.to_thread(cli.main, ["reports", *arguments])
            shown = capsys.readouterr()
            return code, shown.out + shown.err

        code, listed = await tchat("list")
        assert (code, listed.split()[0]) == (0, "1")
        assert "threat" not in listed
        assert await tchat("list", "--after", "1") == (0, "")
        code, opened = await tchat("open", "1", "--key", "moderators.key")
        assert code == 0
        assert "reason: 'a threat'" in opened
        assert "content: 'ไป\\x1b[2Jaway \\u202e'" in opened
        monkeypatch.setenv("TCHAT_MODERATORS_PRIVATE_KEY", (tmp_path / "moderators.key").read_text())
        assert await tchat("open", "1") == (0, opened)
        assert await tchat("open", "2") == (2, "tchat: There is no report 2: see `tchat reports list`.\n")
        await tchat("key", "other.key")
        code, said_so = await tchat("open", "1", "--key", "other.key")
        assert (code, "another key of moderators" in said_so) == (2, True)


@pytest.mark.usefixtures("public_key")
def test_a_key_is_never_written_over_and_one_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TCHAT_MODERATORS_PRIVATE_KEY", raising=False)
    before = (tmp_path / "moderators.key").read_bytes()
    assert cli.main(["reports", "key", "moderators.key"]) == 2
    assert "name a new file" in capsys.readouterr().err
    assert (tmp_path / "moderators.key").read_bytes() == before
    (tmp_path / "wrong.key").write_text("no key")
    for arguments in (["--key", "wrong.key"], ["--key", "missing.key"], []):
        assert cli.main(["reports", "open", "1", *arguments]) == 2
        assert "no private key of moderators" in capsys.readouterr().err
