"""The error of every store that a later try may cure, and two cases of it that a caller must tell apart."""


class StorageUnavailableError(Exception):
    """The store could not do it now. Whether a write happened is not known: call again."""


class IncarnationEndedError(StorageUnavailableError):
    """Another node has taken this one's place; this node can write nothing any more. The next one answers repeats."""

    def __init__(self) -> None:
        super().__init__(
            "Another node serves this database and has taken this node's place: nothing that was acked is lost. "
            "Start this node again only if the other one has been stopped."
        )


class StorageTimeoutError(StorageUnavailableError):
    """The store took too long: the same work, asked for again, may take as long."""
