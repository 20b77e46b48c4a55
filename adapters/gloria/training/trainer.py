"""One trainer for all variants.

Whatever is random is keyed by the seed, the epoch and the batch, so training that was stopped and goes on from a state
ends with the same weights as training that was not, on the same machine with the same number of threads.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ....benchmark.errors import WronglungError
from ....benchmark.instances import Dataset
from ..adapter import Gloria, model_card
from ..design import Design
from ..network import GloriaNetwork
from ..preprocessing import normalise
from ..text import Caption, Captions
from .augment import crop, jitter, place, random_placement
from .config import OptimizerSection, TrainingConfig
from .data import Batch, Edit, Films, Pixels, batches, box_mask, stream, supervised, vocabulary
from .distributed import Processes
from .losses import LossTerms
from .model import Contrast, bert_settings, design_of, make_network
from .pretrained import bert_files, vocabulary_of

Validate = Callable[[Gloria], Mapping[str, float]]
"""Measures a model on validation data: names and values for the log."""

Row = dict[str, float]

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Progress:
    """Where training is, and what has come of it so far."""

    epoch: int = 0
    """Epochs that are complete."""
    batch: int = 0
    """Batches of the current epoch that are complete."""
    steps: int = 0
    """Steps of the optimizer."""
    best: float = math.inf
    """The smallest validation loss."""
    best_epoch: int = 0
    stale: int = 0
    """Epochs since the learning rate was lowered, or since the best one."""
    rate: float = 1.0
    """What the plateau schedule has made of the learning rate."""
    sums: Row = field(default_factory=dict)
    """Losses of the current epoch, added up over its batches."""
    log: list[Row] = field(default_factory=list)


class Trainer:
    """Trains one configuration. ``epochs`` does the work; what to keep of it is the caller's business."""

    def __init__(
        self,
        config: TrainingConfig,
        training: Dataset,
        validation: Dataset,
        processes: Processes,
        *,
        edit: Edit | None = None,
        progress: bool = False,
    ) -> None:
        """``edit`` changes a sentence before it is read (masking). Raises :class:`WronglungError` for datasets that
        there is nothing to learn from."""
        self.config = config
        self.state = Progress()
        self._processes = processes
        self._edit = edit
        self._shows = progress and processes.is_main
        self._films = Films.of(training, config.sentences.keep)
        self._validation = Films.of(validation, config.sentences.keep)
        self.vocabulary = self._read_vocabulary()
        self.design: Design = design_of(config, [training.name], bert_settings(config))
        self._captions = Captions(self.vocabulary, "the training vocabulary", config.text.cleaning)
        self._made: dict[str, Caption] = {}
        torch.manual_seed(config.seed)
        self.contrast = Contrast(make_network(config, self._captions.size), config)
        loss = config.loss
        self._model = processes.wrap(self.contrast, all_used=loss.local > 0 and loss.overall > 0)
        self._optimizer = torch.optim.AdamW(
            _groups(self.network, config.optimizer),
            lr=config.optimizer.learning_rate,
            betas=config.optimizer.betas,
        )
        self._scaler = torch.amp.GradScaler(processes.device.type, enabled=config.precision == "float16")
        self._supervised = (
            supervised(self._films, config.loss.few_shot, config.seed) if config.loss.segmentation else []
        )
        frame = self.design.frame
        self._masks = torch.stack([box_mask(one, frame) for _, one in self._supervised]) if self._supervised else None
        self._pixels = self._open(self._films)
        self._validation_pixels = self._open(self._validation)
        if self.batches_per_epoch == 0:
            raise WronglungError(
                f"dataset {training.name!r}: {len(self._films)} films are too few for accumulate={config.accumulate} "
                f"batches of {config.batch_size} in {processes.count} processes"
            )

    @property
    def network(self) -> GloriaNetwork:
        return self.contrast.network

    @property
    def films(self) -> int:
        """How many films an epoch goes through, before short batches are left out."""
        return len(self._films)

    @property
    def supervised(self) -> int:
        """How many annotated instances supervise attention: as many as asked for, or as there are films."""
        return len(self._supervised)

    @property
    def batches_per_epoch(self) -> int:
        """Batches that this process sees in an epoch, a multiple of those that make a step."""
        size = min(self.config.batch_size, len(self._films))
        share = len(self._films) // size // self._processes.count
        return share - share % self.config.accumulate

    def _read_vocabulary(self) -> bytes:
        """Word numbers must be those of the weights that training starts from."""
        bert, init = self.config.text.bert, self.config.init
        ours = None if init is None else vocabulary_of(init)
        given = None if bert is None else bert_files(bert).vocabulary.read_bytes()
        if ours is not None and given is not None and ours != given:
            raise WronglungError(f"init {init}: was trained with another vocabulary than that of text.bert {bert!r}")
        known = given if ours is None else ours
        if known is not None:
            return known
        return vocabulary(self._films.sentences, self.config.text.cleaning, self.config.text.min_count)

    def _open(self, films: Films) -> Pixels:
        images = [film.image for film in films.films]
        pixels = Pixels(images, self.design.frame, self.config.image.intensity)
        if self.config.workers == 0:
            pixels.keep(self._shows)
        return pixels

    def epochs(self, validate: Validate | None = None, save: Callable[[], None] | None = None) -> Iterator[Row]:
        """Go on from ``state`` to the last epoch; gives each epoch's row of the log.

        ``save`` is called between batches, as often as the configuration says. Before a row is given, ``state`` says
        whether the epoch is the best.
        """
        while self.state.epoch < self.config.epochs and not self._is_stale:
            started = time.perf_counter()
            self._train_epoch(save)
            row = self._row(validate)
            row["seconds"] = round(time.perf_counter() - started, 2)
            self.state.batch, self.state.sums = 0, {}
            self.state.epoch += 1
            self._judge(row["validation_loss"])
            self.state.log.append(row)
            yield row

    @property
    def _is_stale(self) -> bool:
        return self.state.epoch - self.state.best_epoch >= self.config.patience

    def _judge(self, loss: float) -> None:
        """Note whether the epoch that has just ended is the best, and lower the learning rate on a plateau."""
        state, optimizer = self.state, self.config.optimizer
        if loss < state.best:
            state.best, state.best_epoch, state.stale = loss, state.epoch, 0
            return
        state.stale += 1
        if optimizer.schedule == "plateau" and state.stale >= optimizer.plateau_patience:
            state.rate, state.stale = state.rate * optimizer.factor, 0

    def _train_epoch(self, save: Callable[[], None] | None) -> None:
        config, state = self.config, self.state
        self._model.train()
        everything = batches(
            self._films, config.sentences, self._edit, config.batch_size, config.seed, state.epoch, "train"
        )
        mine = everything[self._processes.rank :: self._processes.count][: self.batches_per_epoch]
        extra = [self._draw_supervised(number) for number in range(len(mine))]
        left = range(state.batch, len(mine))
        stacks = self._pixels.stacks(
            [[*mine[number].films, *(film for film, _ in extra[number])] for number in left], config.workers
        )
        bar = tqdm(
            total=len(mine), initial=state.batch, desc=f"epoch {state.epoch + 1}", disable=not self._shows, leave=False
        )
        with bar:
            for number, squares in zip(left, stacks, strict=True):
                last = (number + 1) % config.accumulate == 0
                with self._gathering(last):
                    terms = self._losses(number, squares, mine[number], extra[number])
                    total = terms.total
                    if not math.isfinite(total.detach()):
                        raise WronglungError(self._not_finite("loss", f"batch {number + 1}"))
                    torch.autograd.backward(self._scaler.scale(total / config.accumulate))
                if last:
                    self._step()
                for name, value in terms.present().items():
                    state.sums[name] = state.sums.get(name, 0.0) + float(value.detach())
                bar.update()
                bar.set_postfix(loss=f"{sum(state.sums.values()) / (number + 1):.3f}")
                state.batch = number + 1
                if (
                    save is not None
                    and config.save_every
                    and last
                    and state.batch % config.save_every < config.accumulate
                ):
                    save()

    def _draw_supervised(self, number: int) -> list[tuple[int, int]]:
        """Which annotated instances go with a batch: (film, number among the supervised)."""
        if not self._supervised:
            return []
        rng = stream(self.config.seed, "supervised", self.state.epoch, number, self._processes.rank)
        size = min(self.config.loss.few_shot_batch, len(self._supervised))
        return [(self._supervised[one][0], int(one)) for one in rng.permutation(len(self._supervised))[:size]]

    def _gathering(self, last: bool) -> AbstractContextManager[Any]:
        """Processes exchange gradients with the last batch of a step only."""
        return self._model.no_sync() if isinstance(self._model, DistributedDataParallel) and not last else nullcontext()

    def _losses(self, number: int, squares: torch.Tensor, batch: Batch, extra: Sequence[tuple[int, int]]) -> LossTerms:
        """Losses of one batch; whatever is random in them is keyed by the epoch and the batch."""
        key = stream(self.config.seed, "batch", self.state.epoch, number, self._processes.rank)
        generator = torch.Generator().manual_seed(int(key.integers(2**63)))
        torch.manual_seed(int(key.integers(2**63)))
        frame, augmentation, device = self.design.frame, self.config.augmentation, self._processes.device
        placement = random_placement(len(squares), augmentation, frame, generator)
        levels = place(squares.to(device), placement.to(device), frame.crop)
        pixels = jitter(normalise(levels), augmentation, generator)
        labels = None
        sentences = list(batch.sentences)
        if extra and self._masks is not None:
            masks = self._masks[[one for _, one in extra]].to(device)
            labels = place(masks, placement[-len(extra) :].to(device), frame.crop) >= 0.5
            sentences += [self._supervised[one][1].sentence for _, one in extra]
        with self._autocast():
            terms: LossTerms = self._model(pixels, self._caption(sentences), labels)
        return terms

    def _caption(self, sentences: Sequence[str]) -> list[Caption]:
        new = list(dict.fromkeys(one for one in sentences if one not in self._made))
        self._made.update(zip(new, self._captions(new), strict=True))
        captions = [self._made[one] for one in sentences]
        if len(self._made) > 100_000:
            self._made.clear()
        return captions

    def _autocast(self) -> torch.autocast:
        kind = _TYPES[self.config.precision]
        return torch.autocast(self._processes.device.type, dtype=kind, enabled=kind is not torch.float32)

    def _step(self) -> None:
        settings, share = self.config.optimizer, self._share_of_rate()
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * group["share"] * share
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self.contrast.parameters(), settings.clip or math.inf)
        # With a scale of gradients, a step that is not finite is left out and the scale lowered.
        if not self._scaler.is_enabled() and not math.isfinite(norm):
            raise WronglungError(self._not_finite("gradient", f"step {self.state.steps + 1}"))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self.state.steps += 1

    def _share_of_rate(self) -> float:
        settings, step = self.config.optimizer, self.state.steps
        share = self.state.rate * min(1.0, (step + 1) / settings.warmup) if settings.warmup else self.state.rate
        if settings.schedule == "cosine":
            total = self.config.epochs * self.batches_per_epoch // self.config.accumulate
            share *= (1 + math.cos(math.pi * min(step / max(total, 1), 1.0))) / 2
        return share

    def _row(self, validate: Validate | None) -> Row:
        """The log's row of the epoch whose batches are all done: the main process's, in every process."""
        row: Row = {"epoch": float(self.state.epoch + 1)}
        row |= {f"train_{name}": value / self.state.batch for name, value in sorted(self.state.sums.items())}
        row["train_loss"] = sum(self.state.sums.values()) / self.state.batch
        if self._processes.is_main:
            row["validation_loss"] = self._validation_loss()
            if validate is not None:
                row |= validate(self.model())
        row["learning_rate"] = float(self._optimizer.param_groups[0]["lr"])
        shared: Row = self._processes.from_main(row)
        if not math.isfinite(shared["validation_loss"]):
            raise WronglungError(self._not_finite("validation loss", "its end"))
        return shared

    def _not_finite(self, what: str, where: str) -> str:
        return (
            f"the {what} of epoch {self.state.epoch + 1} is not finite at {where}; lower optimizer.learning_rate, set "
            "optimizer.clip, or use precision=float32"
        )

    @cached_property
    def _fixed_batches(self) -> list[Batch]:
        """The validation films, each with the sentence that it has in every epoch."""
        config = self.config
        return batches(self._validation, config.sentences, self._edit, config.batch_size, config.seed, 0, "valid")

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Mean loss over the validation films, each with a fixed sentence, in evaluation mode and without augmentation.
        Supervised attention is no part of it."""
        self.contrast.eval()
        config = self.config
        fixed = self._fixed_batches
        total = 0.0
        for batch, squares in zip(
            fixed, self._validation_pixels.stacks([one.films for one in fixed], config.workers), strict=True
        ):
            pixels = normalise(crop(squares, self.design.frame).to(self._processes.device))
            with self._autocast():
                total += float(self.contrast(pixels, self._caption(batch.sentences)).total)
        return total / len(fixed)

    def model(self) -> Gloria:
        """The network as it is now, as an alignment model; training it further does not change the model."""
        network = copy.deepcopy(self.network)
        card = model_card("gloria-training", self.design, self._captions, network, None, torch.float32)
        return Gloria(network, self._captions, card, self.design, self._processes.device)

    def weights(self) -> dict[str, torch.Tensor]:
        """The network's tensors, by their names in a checkpoint."""
        return {key: tensor.detach().cpu() for key, tensor in self.network.state_dict().items()}

    def dump(self) -> dict[str, Any]:
        """Everything that is needed to go on, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "progress": asdict(self.state),
        }

    def restore(self, content: Mapping[str, Any]) -> None:
        """Go on from what :meth:`dump` gave. Raises an exception of some kind for anything else."""
        progress = TypeAdapter(Progress).validate_python(content["progress"])
        self.network.load_state_dict(content["network"])
        self._optimizer.load_state_dict(content["optimizer"])
        # Which the optimizer itself does not look at before its next step.
        for parameter, averages in self._optimizer.state.items():
            if any(one.ndim and one.shape != parameter.shape for one in averages.values()):
                raise ValueError("averages of the optimizer have other shapes than the weights")
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(content["scaler"])
        self.state = progress


def _groups(network: GloriaNetwork, settings: OptimizerSection) -> list[dict[str, Any]]:
    """Matrices and filters decay; biases, norms and the no-attention vector do not. The local embedder has a rate of its
    own."""
    local = network.img_encoder.local_embedder.weight
    others = [one for one in network.parameters() if one.requires_grad and one is not local]
    return [
        {"params": [one for one in others if one.ndim > 1], "weight_decay": settings.weight_decay, "share": 1.0},
        {"params": [one for one in others if one.ndim <= 1], "weight_decay": 0.0, "share": 1.0},
        {"params": [local], "weight_decay": settings.weight_decay, "share": settings.local_rate},
    ]
