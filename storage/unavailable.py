"""The one error of every store that a later try may cure."""


class StorageUnavailableError(Exception):
    """The store could not do it now. Whether a write happened is not known: call again."""
