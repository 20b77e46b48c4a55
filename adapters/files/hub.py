"""Finding a model's files: in a folder, in the local cache of the Hugging Face hub, or on the hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from ...benchmark.errors import WronglungError


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
    for names in required:
        path = _first(source, (names,) if isinstance(names, str) else names, argument, revision)
        # A snapshot's folder is called after its commit: all files are of one.
        folder, revision = path.parent, path.parent.name
    for name in optional:
        if try_to_load_from_cache(source, name, revision=revision) is None:
            _fetch(source, name, argument, revision, needed=False)
    return folder


def _first(source: str, names: tuple[str, ...], argument: str, revision: str | None) -> Path:
    for name in names:
        if isinstance(known := try_to_load_from_cache(source, name, revision=revision), str):
            return Path(known)
    for name in names:
        if (path := _fetch(source, name, argument, revision)) is not None:
            return path
    raise WronglungError(f"{argument}={source}: the repository has no {' or '.join(names)}")


def _fetch(source: str, name: str, argument: str, revision: str | None, needed: bool = True) -> Path | None:
    """The file, or None where the repository has none of this name, or where it is not needed and the hub out of reach."""
    try:
        return Path(hf_hub_download(source, name, revision=revision))
    except LocalEntryNotFoundError:
        if not needed:
            return None
        problem = "is not in the local cache, and the hub is out of reach or switched off"
    except EntryNotFoundError:
        return None
    except GatedRepoError:
        raise WronglungError(
            f"{argument}={source}: access is granted on request: accept the terms on the model's page on the Hugging Face "
            "hub, then log in with `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        problem = "is no repository on the hub (or a private one; then log in with `hf auth login`)"
    except (OSError, ValueError) as error:
        problem = f"cannot be fetched ({(str(error).strip() or type(error).__name__).splitlines()[0]})"
    raise WronglungError(
        f"{argument}={source}: {name} {problem}; fetch {name} from the Hugging Face hub ({source}) on a machine that "
        f"reaches it, put it into a folder with the model's other files, and give {argument}=FOLDER"
    )


def _listed(required: Sequence[str | tuple[str, ...]]) -> str:
    return ", ".join(names if isinstance(names, str) else " or ".join(names) for names in required)
