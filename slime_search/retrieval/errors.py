"""Why a server can't be started."""


class SetupError(ValueError):
    """What is to be served can't be; the message names the file or option, its value and the fix."""
