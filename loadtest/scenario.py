"""A scenario: who connects, what they do, for how long, and what must come out of it. Read from TOML.

A scenario is one file: `loadtest/scenarios/NAME.toml`, or any path. Its `[load]` has a `kind`, which says what else it
has. Durations are seconds, sizes bytes, rates per second of all workers together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, get_args

import msgspec
from msgspec import Meta

from loadtest.run_result import METRICS

_FOLDER = Path(__file__).parent / "scenarios"

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Rate = Annotated[float, Meta(ge=0, le=10_000_000)]
Bytes = Annotated[int, Meta(ge=24, le=60_000)]
Part = Annotated[float, Meta(ge=0, le=1)]


class ScenarioError(Exception):
    """A scenario cannot be used; the text says which part of it, and why."""


class _Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """What the people of a scenario do."""


class IdleLoad(_Load, frozen=True, tag="idle"):
    """Nothing: they connect, sync, and stay. Measured: memory of the server for each, and how fast they connect."""


class StormLoad(_Load, frozen=True, tag="storm"):
    """Everybody is cut off and comes back, again and again, at most `at_once` at the same time.

    With `dialogs` above 0 each has so many direct dialogs. `resume` false: without a position, so with a first sync.
    """

    at_once: Count = 64
    dialogs: CountOrNone = 0
    resume: bool = True


class TalkLoad(_Load, frozen=True, tag="talk"):
    """Messages in dialogs of `dialog_size` people: 2 is direct dialogs, more is groups.

    In each dialog `writers` of them write, each one message after the ack of the last (closed loop); or, with a `rate`,
    all writers in turn on a schedule, whether or not earlier messages were answered (open loop), and latency counts
    from when a message was due. The members of a group share `dialogs` groups, and write in each in turn; two people
    have one direct dialog, whatever it says.

    `sealed`: the dialogs are sealed, and their people have devices with keys. Payloads stay bytes, which is what the
    server sees: an envelope around 256 bytes has 862.
    """

    dialog_size: Annotated[int, Meta(ge=2, le=1_000)] = 2
    dialogs: Count = 1
    writers: Annotated[int, Meta(ge=1, le=1_000)] = 1
    rate: Rate = 0.0
    payload_bytes: Bytes = 256
    sealed: bool = False


class ChannelLoad(_Load, frozen=True, tag="channel"):
    """One writer, everybody else reads. `outstanding` messages are under way, or `rate` a second are due.

    A message is under way until it has been read, so that readers do not fall behind. Beside it `joins_per_s` people
    enter and leave again, and `reconnects_per_s` readers are cut off and come back.
    """

    outstanding: Count = 10
    rate: Rate = 0.0
    payload_bytes: Bytes = 256
    joins_per_s: Rate = 0.0
    reconnects_per_s: Rate = 0.0


class MixedLoad(_Load, frozen=True, tag="mixed"):
    """A day of a messenger: people with direct dialogs and groups think, type, write, read, look back, and reconnect.

    `think_s` is the mean of the random pause between two acts of a person.
    """

    think_s: Seconds = 10.0
    direct_dialogs: Count = 5
    groups: CountOrNone = 2
    group_size: Annotated[int, Meta(ge=3, le=1_000)] = 20
    payload_bytes: Bytes = 256
    reconnect_part: Part = 0.02
    history_part: Part = 0.05


class SlowLoad(_Load, frozen=True, tag="slow"):
    """As `talk` in groups with a rate, but a part of the readers stops reading for `pause_s` at a time."""

    dialog_size: Annotated[int, Meta(ge=2, le=1_000)] = 100
    rate: Annotated[float, Meta(gt=0, le=10_000_000)] = 200.0
    payload_bytes: Bytes = 256
    slow_part: Part = 0.1
    pause_s: Seconds = 3.0


AnyLoad = IdleLoad | StormLoad | TalkLoad | ChannelLoad | MixedLoad | SlowLoad
_KINDS = [str(kind.__struct_config__.tag) for kind in get_args(AnyLoad)]


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must hold of one number of the result, or the run fails; see `run_result.METRICS` for the names."""

    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        """Refuse a threshold that nothing could break."""
        if self.at_most is None and self.at_least is None:
            raise ValueError("a threshold has at_most, at_least, or both")


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One scenario. `ramp_s`: an open loop reaches its rate in so many seconds, before the warm-up ends."""

    about: str
    people: Count
    load: AnyLoad
    seconds: Seconds = 10.0
    warm_up_s: Seconds = 2.0
    ramp_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    thresholds: dict[str, Threshold] = {}
    name: str = ""
    server: dict[str, dict[str, int | float | str | bool]] = {}
    """Settings of the server, by section, for a run that starts one of its own."""


def list_names() -> list[str]:
    """The names of the scenarios that come with the product."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load(name: str) -> Scenario:
    """The scenario of this name, or in this file; raises `ScenarioError`."""
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    try:
        scenario = msgspec.toml.decode(path.read_bytes(), type=Scenario)
    except FileNotFoundError:
        known = ", ".join(list_names())
        raise ScenarioError(f"no scenario {name!r}: give a path that ends with .toml, or one of: {known}") from None
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise ScenarioError(f"{path}: {_explain(error)}") from None
    if unknown := sorted(scenario.thresholds.keys() - METRICS.keys()):
        raise ScenarioError(f"{path}: thresholds on unknown numbers: {', '.join(unknown)}; known: {', '.join(METRICS)}")
    return msgspec.structs.replace(scenario, name=scenario.name or path.stem)


def change(scenario: Scenario, changes: Mapping[str, int | float]) -> Scenario:
    """The scenario with these settings instead of its own; raises `ScenarioError`."""
    try:
        return msgspec.convert(msgspec.to_builtins(scenario) | changes, Scenario)
    except msgspec.ValidationError as error:
        raise ScenarioError(_explain(error)) from None


def _explain(error: Exception) -> str:
    """What msgspec says, with the setting first, and what else a kind could be."""
    what, _, where = str(error).partition(" - at ")
    setting = where.strip("`").removeprefix("$.")
    if setting == "load.kind":
        what = f"{what}; known: {', '.join(_KINDS)}"
    return f"{setting}: {what}" if setting else what
