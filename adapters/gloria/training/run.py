"""Train a configuration into a folder, and go on where a run was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch

from ....benchmark.errors import WronglungError, first_line
from ....benchmark.instances import Dataset
from ..design import write_checkpoint
from . import folder
from .config import SentencesSection, TrainingConfig
from .data import Edit, Rng
from .distributed import Processes, processes
from .entities import load_entities
from .masking import mask_entities, mask_words
from .trainer import Row, Trainer, Validate


def train(
    config: TrainingConfig,
    training: Dataset,
    validation: Dataset,
    out: Path,
    *,
    device: str = "cpu",
    validate: Validate | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    progress: bool = False,
    on_epoch: Callable[[Row], None] | None = None,
    context: Mapping[str, Any] | None = None,
) -> Path | None:
    """Train and write the run's files into ``out`` (see :mod:`.folder`).

    Returns the path of the best checkpoint; in all but the first of several processes, None.

    ``validate`` measures the model after every epoch for the log, whose rows ``on_epoch`` is given. Early
    stopping and the choice of the best epoch look at the validation loss alone. ``context`` (``commit``, ``command``,
    ...) goes into the card.

    Raises :class:`WronglungError` for a folder that holds a run already or is in use, a state of another configuration or
    other data, data or weights that cannot be used, and a process for decoding that dies.
    """
    try:
        with processes(device) as ours:
            return _train(
                ours, config, training, validation, out,
                validate=validate, resume=resume, overwrite=overwrite, tensorboard=tensorboard, progress=progress,
                on_epoch=on_epoch, context=context or {},
            )  # fmt: skip
    except (RuntimeError, ConnectionError, EOFError) as error:
        # Torch raises it where a signal finds the main thread, unless that was just reading from the process.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise WronglungError(
            f"a process that decodes films has died ({first_line(error)}); --resume goes on from the last saved state, and "
            "workers=0 decodes without other processes"
        ) from error


def _train(
    ours: Processes,
    config: TrainingConfig,
    training: Dataset,
    validation: Dataset,
    out: Path,
    *,
    validate: Validate | None,
    resume: bool,
    overwrite: bool,
    tensorboard: bool,
    progress: bool,
    on_epoch: Callable[[Row], None] | None,
    context: Mapping[str, Any],
) -> Path | None:
    """The training itself: a function of its own, so that what talks to other processes is gone before they part."""
    with ExitStack() as stack:
        goes_on = False
        if ours.is_main:
            goes_on = stack.enter_context(folder.claimed(out, resume=resume, overwrite=overwrite))
        goes_on = ours.from_main(goes_on)
        board = stack.enter_context(_TensorBoard(out)) if tensorboard and ours.is_main else None
        edit = sentence_edit(config.sentences)
        trainer = Trainer(config, training, validation, ours, edit=edit, progress=progress)
        identity = {
            "config": config.model_dump(mode="json"),
            "training": training.fingerprint,
            "validation": validation.fingerprint,
            "processes": ours.count,
        }
        if goes_on:
            restore(trainer, out, identity)
        if ours.is_main:
            if overwrite:
                # Only now: what is wrong with the new run has been found before the old one goes.
                folder.clear(out)
            folder.write_config(out, config)

        def save() -> None:
            if ours.is_main:
                folder.write_state(out, {**trainer.dump(), "identity": identity})

        for row in trainer.epochs(validate, save):
            if not ours.is_main:
                continue
            if trainer.state.best_epoch == trainer.state.epoch:
                _write(trainer, out / "best.safetensors")
            _write(trainer, out / "last.safetensors")
            folder.write_log(out, trainer.state.log)
            folder.write_card(out / folder.CARD, _card(trainer, identity, ours, training, context))
            if board is not None:
                board.add(row)
            # Last: a run that is killed before this does the epoch again.
            save()
            if on_epoch is not None:
                on_epoch(row)
        return out / "best.safetensors" if ours.is_main else None


def sentence_edit(settings: SentencesSection) -> Edit | None:
    """What masking does to a sentence, or None. Entities are looked up once per distinct sentence."""
    if settings.masking == "none":
        return None
    if settings.masking == "words":
        return lambda sentence, rng: mask_words(sentence, settings.probability, rng)
    entities = load_entities(settings.entities)
    spans: dict[str, Any] = {}

    def edit(sentence: str, rng: Rng) -> str:
        if sentence not in spans:
            spans[sentence] = entities.spans(sentence)
        return mask_entities(sentence, spans[sentence], settings.probability, rng)

    return edit


def restore(trainer: Trainer, out: Path, identity: Mapping[str, Any]) -> None:
    """Go on from the state in a folder.

    Raises :class:`WronglungError` for a state of another configuration, other data or another number of processes, and for one
    that is damaged.
    """
    content = folder.read_state(out)
    saved = content.get("identity")
    if not isinstance(saved, Mapping):
        raise folder.damaged(out, "does not say which training it is of")
    for key, value in identity.items():
        if _decisive(saved.get(key)) != _decisive(value):
            what = {"config": "configuration", "training": "training data", "validation": "validation data"}
            differs = f" ({_difference(_decisive(saved.get(key)), _decisive(value))})" if key == "config" else ""
            raise WronglungError(
                f"{out}: was started with another {what.get(key, 'number of processes')}{differs}; "
                "resume with the same, or train anew with --overwrite"
            )
    try:
        trainer.restore(content)
    except Exception as error:  # as many kinds as a state has parts
        raise folder.damaged(out, f"{type(error).__name__}: {first_line(error)}") from error


def _decisive(value: Any) -> Any:
    """Without the settings that have no effect on what comes out."""
    return {key: one for key, one in value.items() if key not in _FREE} if isinstance(value, dict) else value


_FREE = ("workers", "save_every")


def _difference(a: Any, b: Any, key: str = "") -> str:
    """The first key in which two configurations differ, with both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        for one in sorted(a.keys() | b.keys()):
            if a.get(one) != b.get(one):
                return _difference(a.get(one), b.get(one), f"{key}.{one}".lstrip("."))
    return f"{key}: {a} then, {b} now"


def _write(trainer: Trainer, path: Path) -> None:
    write_checkpoint(path, trainer.weights(), trainer.design, trainer.vocabulary)


def _card(
    trainer: Trainer, identity: Mapping[str, Any], ours: Processes, training: Dataset, context: Mapping[str, Any]
) -> dict[str, Any]:
    state = trainer.state
    return {
        "variant": trainer.config.variant,
        "config": identity["config"],
        "data": {
            "name": training.name,
            "training_fingerprint": identity["training"],
            "validation_fingerprint": identity["validation"],
            "films": trainer.films,
            "supervised": trainer.supervised,
            "instances": len(training.instances),
        },
        "seed": trainer.config.seed,
        "parameters": sum(one.numel() for one in trainer.network.parameters()),
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "best_validation_loss": round(state.best, 6),
        "curve": state.log,
        "device": str(ours.device),
        "processes": ours.count,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **context,
    }


class _TensorBoard:
    """Rows of the log as TensorBoard scalars under ``tensorboard`` in the run's folder."""

    def __init__(self, out: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise WronglungError('--tensorboard needs the extra: pip install "wronglung[train]"') from error
        self._kind: Any = SummaryWriter
        self._folder = out / folder.TENSORBOARD
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, row: Row) -> None:
        if self._writer is None:
            self._writer = self._kind(str(self._folder))
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))
