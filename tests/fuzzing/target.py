"""A fuzz target, and what runs it: damage one file, read, look at what happened, put the file back."""

from __future__ import annotations

import random
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wronglung.benchmark.errors import WronglungError

from .formats import damaged
from .guard import ContractError, watched


@dataclass(frozen=True)
class Input:
    """What a target reads: files below ``root``, and an empty folder for whatever it writes."""

    root: Path
    out: Path
    rng: random.Random


@dataclass(frozen=True)
class Target:
    """One way in for files.

    ``write`` makes whole files below a folder and returns the path that ``read`` is given as ``root``. ``read`` raises
    :class:`WronglungError` for what it refuses and :class:`ContractError` for what must not be. The damage goes to files whose
    names end as ``files`` says (all, if empty); where ``media`` are told, to those in one of seven cases.
    """

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Input], None]
    files: tuple[str, ...] = ()
    media: tuple[str, ...] = ()


class Fuzzer:
    """A target with files of its own, in a folder that holds nothing else."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self.data, self.out, self.temporary = folder / "data", folder / "out", folder / "temporary"
        for one in (self.data, self.out, self.temporary):
            one.mkdir()
        self.outside = folder / "outside.txt"
        self.outside.write_text("untouched")
        self.outcomes: Counter[str] = Counter()
        self.root = target.write(self.data)
        files = sorted(one for one in self.data.rglob("*") if one.is_file())
        chosen = [one for one in files if not target.files or one.name.endswith(target.files)]
        self.media: Sequence[Path] = [one for one in chosen if target.media and one.name.endswith(target.media)]
        self.files: Sequence[Path] = [one for one in chosen if one not in self.media]
        self._there: list[str] = []
        # What is imported or compiled once is none of a file's doing.
        self.whole = self._read(random.Random(0), guarded=False)

    def once(self, seed: int) -> str | None:
        """Damage one file, read, and put it back. Returns what went wrong."""
        rng = random.Random(seed)
        file = rng.choice(self.media if not self.files or (self.media and rng.random() < 0.15) else self.files)
        content = file.read_bytes()
        try:
            self._damage(file, content, rng)
            read = self._read(rng)
            self.outcomes["read" if read else "refused"] += 1
        except (Exception, ContractError):
            return f"{self.target.name}: {file.relative_to(self.data)}, seed {seed}: {traceback.format_exc(limit=-8)}"
        finally:
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            else:
                file.unlink(missing_ok=True)
            file.write_bytes(content)
            for folder in (self.out, self.temporary):
                shutil.rmtree(folder)
                folder.mkdir()
        return None

    def reads_whole_files_again(self) -> bool:
        """Whether the files, all put back, are read as at the beginning."""
        return self._read(random.Random(0), guarded=False)

    def _damage(self, file: Path, content: bytes, rng: random.Random) -> None:
        chance = rng.random()
        if chance < 0.05:
            file.unlink()
            if 0.02 <= chance < 0.03:
                file.mkdir()
            elif chance >= 0.03:
                file.symlink_to(self.outside)
            return
        file.write_bytes(damaged(content, file.suffix, rng))

    def _read(self, rng: random.Random, guarded: bool = True) -> bool:
        """Whether the files as they are were read; False where they were refused with a message."""
        given = Input(self.root, self.out, rng)
        self._there = self._listed()
        before, tempfile.tempdir = tempfile.tempdir, str(self.temporary)
        try:
            if not guarded:
                self.target.read(given)
                shutil.rmtree(self.out)
                self.out.mkdir()
                return True
            with watched(self.out, self.temporary):
                try:
                    self.target.read(given)
                    read = True
                except WronglungError as error:
                    read = False
                    if not str(error).strip():
                        raise ContractError("an error without a message") from error
        finally:
            tempfile.tempdir = before
        left = sorted(one.name for one in self.out.rglob("*"))
        if left and not read:
            raise ContractError(f"refused, and left {left[0]} behind")
        if self.outside.read_text() != "untouched" or self._listed() != self._there:
            raise ContractError("files beside were written, moved or removed")
        return read

    def _listed(self) -> list[str]:
        top = self.data.parent
        folders = (self.out, self.temporary)
        return sorted(str(one) for one in top.rglob("*") if not any(one.is_relative_to(folder) for folder in folders))
