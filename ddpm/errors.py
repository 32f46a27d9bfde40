"""The one exception that means: the user gave something that cannot be used."""


class InputError(ValueError):
    """Bad input by the user.

    The command line prints the message on one line and exits with code 2, so a message names what
    was given, its value and what is allowed, and holds no line break. It may quote a file from
    anywhere, so what a terminal would obey instead of show is written as its code.

    Attributes:
        passing: Whether the same command may succeed when it is started again.
    """

    passing = False

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        shown = (c if c.isprintable() else ascii(c)[1:-1] for c in line)
        super().__init__("".join(shown))


def check(condition: bool, argument: str, value: object, allowed: str) -> None:
    """Raise unless `condition` holds, saying which argument is wrong and what would be right.

    Args:
        condition: what must be true.
        argument: name of the argument, as the user knows it.
        value: what was given.
        allowed: the range or the choices, in words.

    Raises:
        InputError: if `condition` is false.
    """
    if not condition:
        raise InputError(f"{argument} = {value!r}: allowed is {allowed}")
