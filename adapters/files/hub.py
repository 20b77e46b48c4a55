"""Finding a model's files: in a folder, in the local cache of the Hugging Face hub, or on the hub."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from ...benchmark.errors import WronglungError, first_line


def model_folder(
    source: str,
    required: Sequence[str | tuple[str, ...]],
    optional: Sequence[str] = (),
    *,
    argument: str,
    revision: str | None = None,
) -> Path:
    """The folder that holds a model's files.

    ``source`` is a folder, or the name of a repository on the hub, ``owner/name``. ``required`` are names of files; a
    tuple names alternatives, of which the first that exists is enough. Of a repository, the local cache comes first; what
    it lacks is downloaded, unless the hub is switched off (``HF_HUB_OFFLINE=1``). ``optional`` files may be
    missing; without the hub, those that the cache lacks are. ``argument`` is the model's argument that named the source.

    Raises :class:`WronglungError` saying which file is missing, what to fetch and where to put it, and for a repository
    whose owners grant access one by one.
    """
    # The method of Path raises where there is no such user.
    folder = Path(os.path.expanduser(source))  # noqa: PTH111
    if folder.is_dir():
        for names in required:
            alternatives = (names,) if isinstance(names, str) else names
            if not any((folder / name).is_file() for name in alternatives):
                raise WronglungError(f"{argument}={source}: the folder holds no {' or '.join(alternatives)}")
        return folder
    if folder.is_file() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        what = "is a file, not a folder" if folder.is_file() else "no such folder"
        raise WronglungError(
            f"{argument}={source}: {what}; give a folder with {_listed(required)}, or a name on the Hugging Face hub"
        )
    pinned = "" if revision is None else f" --revision {revision}"
    for names in required:
        alternatives = (names,) if isinstance(names, str) else names
        try:
            path = _first(source, alternatives, revision)
        except _NotFetchedError as error:
            raise WronglungError(
                f"{argument}={source}: {error}; on a machine that reaches the Hugging Face hub, "
                f"`hf download {source}{pinned} --local-dir FOLDER` ({_listed(required)}), then give {argument}=FOLDER"
            ) from None
        if path is None:
            raise WronglungError(f"{argument}={source}: the repository has no {' or '.join(alternatives)}")
        # A snapshot's folder is called after its commit: all files are of one.
        folder, revision = path.parent, path.parent.name
    for name in optional:
        with suppress(_NotFetchedError):
            _first(source, (name,), revision)
    return folder


class _NotFetchedError(Exception):
    """Why a file that may exist cannot be had."""


def _first(source: str, names: tuple[str, ...], revision: str | None) -> Path | None:
    """The first of some files that the cache has, or else the hub; None where it has none of them."""
    try:
        for name in names:
            if isinstance(known := try_to_load_from_cache(source, name, revision=revision), str):
                return Path(known)
        return next((path for name in names if (path := _fetch(source, name, revision)) is not None), None)
    except ValueError as error:
        raise _NotFetchedError(f"is no folder, and no name of a repository ({first_line(error)})") from error


def _fetch(source: str, name: str, revision: str | None) -> Path | None:
    """The file, or None where the repository has none of this name."""
    out_of_reach = f"{name} is not in the local cache, and the hub is out of reach or switched off"
    if not _in_reach():
        raise _NotFetchedError(out_of_reach)
    try:
        return Path(hf_hub_download(source, name, revision=revision))
    except LocalEntryNotFoundError:
        raise _NotFetchedError(out_of_reach) from None
    except EntryNotFoundError:
        return None
    except GatedRepoError:
        raise _NotFetchedError(
            "access is granted on request: accept the terms on the model's page on the Hugging Face hub, then log in with "
            "`hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise _NotFetchedError(
            "is no repository on the hub (or a private one; then log in with `hf auth login`)"
        ) from None
    except OSError as error:
        raise _NotFetchedError(f"{name} cannot be fetched ({first_line(error)})") from error


@cache
def _in_reach() -> bool:
    """Whether there is a way to the hub at all: its library would try for half a minute to find out that there is none."""
    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _listed(required: Sequence[str | tuple[str, ...]]) -> str:
    return ", ".join(names if isinstance(names, str) else " or ".join(names) for names in required)
