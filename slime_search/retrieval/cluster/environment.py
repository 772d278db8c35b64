"""What Ray reads from the environment when it is imported."""

import secrets


def of_one_machine() -> dict[str, str]:
    """For a new Ray and for those who use it.

    Ray listens on the loopback address alone, answers only who has the token, and reports nothing to its makers.
    """
    return {
        # Off, it means a single machine: on Linux too, in spite of its name.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
