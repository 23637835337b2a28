"""What a command raises when it cannot do what it was asked for."""


class CommandError(Exception):
    """The message says what to do instead; it is printed without a traceback."""
