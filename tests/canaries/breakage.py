"""What a canary is, and the catalogue: one TOML file per part of the product."""

from __future__ import annotations

from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent


class Breakage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One deliberate fault: `old` in `file` becomes `new`, and `caught_by` (a pytest node id) must fail.

    `breaks` names the promise, the bound or the check that is broken then.
    """

    breaks: str
    file: str
    old: str
    new: str
    caught_by: str

    def apply(self, root: Path) -> None:
        """Break the tree at `root`. Raises `LookupError` unless `old` is there exactly once."""
        path = root / self.file
        path.write_text(self.change(path.read_text(encoding="utf-8")), encoding="utf-8")

    def change(self, text: str) -> str:
        """The broken file; raises as `apply` does."""
        found = text.count(self.old)
        if found != 1:
            raise LookupError(f"{self.file} has {self.old!r} {found} times, not once: renew this canary")
        return text.replace(self.old, self.new)


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    breakage: tuple[Breakage, ...]


def load_all() -> dict[str, tuple[Breakage, ...]]:
    """The catalogue: breakages by part of the product, in the order of the names."""
    return {
        path.stem: msgspec.toml.decode(path.read_bytes(), type=_Part).breakage for path in sorted(FOLDER.glob("*.toml"))
    }


def as_markdown() -> str:
    """The table that docs/testing.md shows."""
    lines = ["| what is broken | in | caught by |", "|---|---|---|"]
    for breakages in load_all().values():
        for each in breakages:
            module, _, name = each.caught_by.partition("::")
            lines.append(f"| {each.breaks} | `{each.file}` | `{Path(module).stem}`: `{name}` |")
    return "\n".join(lines) + "\n"
