"""The types of settings: bounds of numbers, and secrets."""

from typing import Annotated

from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Workers = Annotated[int, Meta(ge=1, le=64)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Seconds = Annotated[float, Meta(gt=0)]
WholeSeconds = Annotated[int, Meta(ge=1)]
Keyspace = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,47}$")]
PerSecond = Annotated[float, Meta(gt=0)]


class Secret:
    """A text that is never printed. It comes from the environment, or from the file that `<key>_file` names."""

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(***)" if self._text else "Secret()"
