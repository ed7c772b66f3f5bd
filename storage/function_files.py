"""SQL functions as files: one each in a folder or its subfolders, rendered with the numbers that Python gives to names.

A file is a template: `${Outcome.OK}` stands for the number of an enum's member, `${AMOUNT_MINOR_MAX}` for a constant.
An unknown name is an error.

Invariants: a file creates the one function that it is named after; a function in the language `sql` calls none of ours
that comes after it by name, because PostgreSQL looks its callees up when it is created. A trigger's function says
CREATE OR REPLACE, and its file creates the triggers.
"""

import enum
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

_PLACE = re.compile(r"\$\{([^}]*)\}")


class FunctionFiles:
    """The functions of one database.

    `others` give what `${group.name}` stands for where the group is no enum.
    """

    def __init__(
        self,
        folder: Path,
        *,
        enums: Iterable[type[enum.IntEnum] | type[enum.IntFlag]],
        constants: Mapping[str, int | str],
        others: Mapping[str, Callable[[str], str]] | None = None,
    ) -> None:
        self.folder = folder
        self._enums = {each.__name__: each for each in enums}
        self._constants = constants
        self._others = others or {}

    def list_names(self) -> list[str]:
        """The names of the functions, in the order in which they are created."""
        return sorted(path.stem for path in self.folder.rglob("*.sql"))

    def read(self, name: str) -> str:
        """The template of a function."""
        (path,) = self.folder.rglob(f"{name}.sql")
        return path.read_text(encoding="utf-8")

    def render(self, template: str) -> str:
        """The SQL of a template; LookupError if it uses a name that Python does not have."""
        return _PLACE.sub(lambda place: self._value(*place[1].partition(".")[::2]), template)

    def render_all(self) -> dict[str, str]:
        """The SQL of every function by its name, in the order in which they are created."""
        return {name: self.render(self.read(name)) for name in self.list_names()}

    def _value(self, group: str, name: str) -> str:
        if group in self._enums:
            return str(int(self._enums[group][name]))
        if not name:
            return str(self._constants[group])
        return self._others[group](name)


def list_droppable(rendered: Mapping[str, str]) -> list[str]:
    """The names of the functions that are dropped before they are created: all but those of triggers."""
    return [name for name, text in rendered.items() if "CREATE OR REPLACE FUNCTION" not in text]


def digest(rendered: Mapping[str, str]) -> str:
    """A hash that changes with the text of any function."""
    return hashlib.sha256("\0".join(rendered.values()).encode()).hexdigest()
