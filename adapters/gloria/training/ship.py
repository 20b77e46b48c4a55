"""Turn a training run into a checkpoint that ships: ``python -m wronglung.adapters.gloria.training.ship RUN FOLDER``."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ....benchmark.errors import WronglungError
from ..design import read_design, write_checkpoint
from . import folder

DTYPE = torch.float16


def ship(run: Path, destination: Path) -> Path:
    """Write the best checkpoint of a finished run, its tensors as float16, and its card into a folder.

    The files are ``<variant>.safetensors`` and ``<variant>.json``. The card is the run's, its curve at six digits, with
    ``shipped``: the type of the tensors and the file's SHA-256. Returns the path of the checkpoint.

    Raises :class:`WronglungError` for a folder that holds no run and for files that cannot be read or written.
    """
    source, card_file = run / "best.safetensors", run / folder.CARD
    try:
        card: dict[str, Any] = json.loads(card_file.read_text(encoding="utf-8"))
        weights = safetensors.torch.load_file(source)
    except FileNotFoundError as error:
        raise WronglungError(
            f"{run}: holds no finished training run ({Path(error.filename or source).name} is missing)"
        ) from error
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise WronglungError(f"{run}: its checkpoint or card cannot be read: {error}") from error
    own = read_design(source)
    if own is None:
        raise WronglungError(f"{source}: does not say how it was trained; ship a run of wronglung train")
    destination.mkdir(parents=True, exist_ok=True)
    target = destination / f"{card['variant']}.safetensors"
    write_checkpoint(target, weights, *own, dtype=DTYPE)
    # It names folders of the machine; the configuration, the seed and the commit say the rest.
    card.pop("command", None)
    card["curve"] = [{key: float(f"{value:.6g}") for key, value in row.items()} for row in card["curve"]]
    card["shipped"] = {
        "dtype": str(DTYPE).removeprefix("torch."),
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "note": "trained and measured during training in the run's precision; tensors rounded to this type afterwards",
    }
    folder.write_card(target.with_suffix(".json"), card)
    return target


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m wronglung.adapters.gloria.training.ship", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished wronglung train")
    parser.add_argument("folder", type=Path, help="where the checkpoint and its card go")
    chosen = parser.parse_args(arguments)
    try:
        target = ship(chosen.run, chosen.folder)
    except WronglungError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
