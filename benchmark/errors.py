"""Errors whose message is written for the user."""


class WronglungError(Exception):
    """Bad input or a refused request; the message names the place and the fix.

    The command line prints the message alone and exits with 2.
    """
