"""The one error of our own. Bad values are plain ``ValueError``."""


class MissingError(RuntimeError):
    """A model or a device is not there; the message says in one line how to get it."""
