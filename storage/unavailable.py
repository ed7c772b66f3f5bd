"""The errors of every store: those that a later try may cure, and what is known of a write that failed."""


class StorageUnavailableError(Exception):
    """The store could not do it now. Whether a write happened is not known: call again."""


class NothingWrittenError(StorageUnavailableError):
    """The write did not reach the store, or the store refused the whole of it for now: nothing was written."""


class BooksReadOnlyError(NothingWrittenError):
    """The books of commerce were restored: nothing is written until they are reconciled."""

    def __init__(self) -> None:
        super().__init__("the books were restored, and are read-only until the operator accepts them")


class LockTimeoutError(NothingWrittenError):
    """A lock that the write needs was not free in time: nothing was written."""


class IncarnationEndedError(StorageUnavailableError):
    """Another node has ended this incarnation, which can write nothing any more. Other nodes answer repeats."""

    def __init__(self) -> None:
        super().__init__(
            "Another node serves this database and has ended this one's incarnation: nothing that was acked is lost. "
            "Start this node again if they share the database (cluster.redis_urls) or the other one has been stopped."
        )


class OtherHistoryError(StorageUnavailableError):
    """The database has another history than the one that the epoch was begun for: nothing of it is handed out."""

    def __init__(self) -> None:
        super().__init__("PostgreSQL was restored or promoted: whether an epoch begins is settled first")


class NoArchiveError(StorageUnavailableError):
    """There are rows in an archive that this node has no settings of; another node may do it."""

    def __init__(self) -> None:
        super().__init__("this node knows no archive, and others do")


class StorageTimeoutError(StorageUnavailableError):
    """The store took too long: the same work, asked for again, may take as long."""


class WriteRefusedError(Exception):
    """The store refused the whole write, and would refuse it again: nothing was written."""
