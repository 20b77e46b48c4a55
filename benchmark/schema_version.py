"""The version of a file's form, which is looked at before anything else in the file."""

from __future__ import annotations

from .errors import WronglungError


def check_version(said: object, newest: int, where: str) -> None:
    """Raise :class:`WronglungError` unless ``said`` is a whole number from 1 to ``newest``.

    Within a version, fields are only added, with a default for files that lack them.
    """
    if isinstance(said, int) and not isinstance(said, bool) and said > newest:
        shown = said if said.bit_length() < 64 else "too large to show"
        raise WronglungError(
            f"{where}: has schema version {shown}; this wronglung reads up to {newest}: update it (pip install --upgrade wronglung)"
        )
    if not isinstance(said, int) or isinstance(said, bool) or said < 1:
        what = "no schema version" if said is None else "a schema version that is no whole number from 1"
        raise WronglungError(f"{where}: has {what}; it is damaged, or was not written by wronglung")
