"""The error that stops a start. It stands on the ground floor because every part may raise it."""


class StartupError(Exception):
    """The server cannot start; the message says why and what to do."""
