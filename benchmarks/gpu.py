"""GLoRIA of the released size on a GPU: exactness, speed of the encoders, and speed of whole runs.

    python benchmarks/gpu.py FOLDER [--out gpu.json] [--films 1024] [--files 64] [--seconds 220]

Printed, and written to a JSON file after every section:

- how far float32 on the GPU is from the CPU (TF32 off, and off also where it was asked for), and bfloat16 and float16 from float32;
- images and sentences a second of the encoders alone, with their inputs on the device, by batch size: the floor of a run;
- whole runs of `wrong-lung` by batch size and type: images and instances a second from a quarter of the images on (before that,
  processes that score are started), wall time over the floor, shares of the stages, utilisation as NVML sees it, the share of the
  time in which a kernel runs (from a profile of a run of its own), and the peak of device memory;
- variants of the image encoder: memory format, cuDNN's search, CUDA graphs, torch.compile.

Films are JPEG files of 7.5 megapixels, a few ones that are read again and again; sentences are phantom's. A section that fails is
noted and the next one begins; those for which less than their share of ``--seconds`` is left are skipped.
``--device cpu --tiny`` shows on any machine that the program works.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from tabulate import tabulate
from workload import MEGAPIXELS_7_5, RELEASED, TINY, films, write_gloria

from wronglung import Dataset, Results, evaluate, load_dataset, load_model, load_suite
from wronglung.adapters.encoding import full_precision
from wronglung.adapters.gloria.adapter import Gloria
from wronglung.adapters.gloria.preprocessing import normalise
from wronglung.benchmark.plan import Plan, by_sentence
from wronglung.benchmark.protocol import Alignment, Features, LoadedImage, ModelCard, Preprocessed

SUITE = "wrong-lung"
BATCHES = (1, 4, 16, 64, 256)
SENTENCES_PER_IMAGE = 8
"""How many times more sentences than images a run encodes at once."""
Record = dict[str, Any]


@dataclass
class Work:
    """What the sections share."""

    device: torch.device
    data: Dataset
    checked: Dataset
    """A few films of it, for comparisons with the CPU."""
    arguments: dict[str, Any]
    batches: Sequence[int]
    scoring_workers: int
    least: float
    """Seconds that a measurement of the encoders takes at least."""
    floors: dict[tuple[str, int], float] = field(default_factory=dict)
    """Seconds that the encoders need for all images and sentences of ``data``, by type and batch size."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """A CPU takes minutes for what it has no instructions for."""
        return ("float32", "bfloat16", "float16") if self.device.type == "cuda" else ("float32", "bfloat16")

    def model(self, dtype: str = "float32", device: str | None = None) -> Gloria:
        model: Gloria = load_model("gloria", device=device or str(self.device), dtype=dtype, **self.arguments)
        return model

    def seconds(self, call: Callable[[], object]) -> float:
        """Of one call, the device's work included."""
        call()
        self.wait()
        times = 0
        start = time.perf_counter()
        while time.perf_counter() - start < self.least:
            call()
            times += 1
            self.wait()
        return (time.perf_counter() - start) / times

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def sentences_of(data: Dataset) -> list[str]:
    """All sentences that a run encodes, in the order of their length."""
    asked = {one for image in Plan(load_suite(SUITE), data).images() for one in by_sentence(image.questions)}
    return sorted(asked | {one.sentence for one in data.instances}, key=lambda one: (len(one), one))


def prepared(model: Gloria, data: Dataset, count: int) -> list[Preprocessed]:
    refs = list({one.image_id: one.image for one in data.instances}.values())[:count]
    made = [model.preprocess(LoadedImage(ref.id, ref.load())) for ref in refs[: min(count, 16)]]
    return [made[at % len(made)] for at in range(count)]


# Exactness.


def exactness(work: Work) -> Record:
    """Maps, similarities and metrics on the CPU and on the device, and in 16 bits."""
    usual, here = work.model(device="cpu"), work.model()
    images = [
        LoadedImage(ref.id, ref.load()) for ref in {one.image_id: one.image for one in work.checked.instances}.values()
    ]
    sentences = sentences_of(work.checked)[: 4 * len(images)]
    pairs = [(at, one) for at in range(len(images)) for one in range(len(sentences))]

    def answers(model: Gloria) -> Alignment:
        seen, read = model.encode_images(images), model.encode_sentences(sentences)
        return model.align_features([seen[at] for at, _ in pairs], [read[one] for _, one in pairs])

    expected, found = answers(usual), answers(here)
    record: Record = {"films": len(images), "pairs": len(pairs), "float32 against CPU": differences(found, expected)}
    with tf32_asked_for():
        again = answers(here)
    record["the same bits where TF32 was asked for"] = bool(torch.equal(again.saliency, found.saliency))
    of_cpu = table(evaluate(usual, work.checked, SUITE))
    of_device = table(evaluate(here, work.checked, SUITE))
    record["float32 against CPU"]["metrics"] = metric_differences(of_device, of_cpu)
    phantom = load_dataset("phantom", None, patients=100)
    trained = "gloria-phantom-masking"
    of_trained = table(evaluate(load_model(trained, device=str(work.device)), phantom, SUITE))

    def short(dtype: str) -> Record:
        model = work.model(dtype)
        one = differences(answers(model), found)
        one["metrics"] = metric_differences(table(evaluate(model, work.checked, SUITE)), of_device)
        coarse = load_model(trained, device=str(work.device), dtype=dtype)
        one[f"metrics of {trained}"] = metric_differences(table(evaluate(coarse, phantom, SUITE)), of_trained)
        return one

    return record | {f"{dtype} against float32": attempt(partial(short, dtype)) for dtype in work.dtypes[1:]}


def attempt(call: Callable[[], Record]) -> Record:
    """What it gives, or what it fails with."""
    try:
        return call()
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:300]}


@contextmanager
def tf32_asked_for() -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    name, fast = ("fp32_precision", "tf32") if hasattr(matmul, "fp32_precision") else ("allow_tf32", True)
    before = getattr(matmul, name)
    setattr(matmul, name, fast)
    try:
        yield
    finally:
        setattr(matmul, name, before)


def differences(found: Alignment, expected: Alignment) -> Record:
    """The largest differences: of maps as a share of each map's largest value, of similarities as they are."""
    a, b = (one.saliency.detach().cpu().double().flatten(1) for one in (found, expected))
    record: Record = {"map": float(((a - b).abs().amax(1) / b.abs().amax(1)).max())}
    for name in ("local_similarity", "global_similarity"):
        one, other = (getattr(each, name).detach().cpu().double() for each in (found, expected))
        record[name] = float((one - other).abs().max())
    return record


def table(results: Results) -> Any:
    return results.instances.set_index(["instance_id", "task"]).sort_index()


def metric_differences(found: Any, expected: Any) -> Record:
    """Mean and largest difference of each figure of an instance, and the largest of a task's mean."""
    record = {}
    for name in ("auroc", "average_precision", "iou@10", "entropy", "random_attention_kl", "local_similarity"):
        if name in expected:
            off = (found[name] - expected[name]).abs()
            means = (found[name].groupby("task").mean() - expected[name].groupby("task").mean()).abs()
            record[name] = {"mean": float(off.mean()), "largest": float(off.max()), "of means": float(means.max())}
    return record


# The encoders alone.


def encoders(work: Work) -> list[Record]:
    """Images and sentences a second with inputs on the device, and what the adapter adds to that."""
    rows = []
    for dtype in work.dtypes:
        model = work.model(dtype)
        for batch in work.batches if dtype == "float32" else work.batches[-2:]:
            rows.append(one_batch(work, model, dtype, batch))
            work.floors[dtype, batch] = rows[-1]["floor of a run, s"]
    return rows


def one_batch(work: Work, model: Gloria, dtype: str, batch: int) -> Record:
    encoder, sentences = model._network.img_encoder, sentences_of(work.data)
    images = prepared(model, work.data, batch)
    pixels = normalise(torch.stack([one.pixels for one in images]).to(work.device))[:, None]

    def floor() -> None:
        with torch.no_grad(), full_precision(work.device):
            encoder(pixels)

    step = SENTENCES_PER_IMAGE * batch
    # Some batches of all lengths.
    starts = list(range(0, len(sentences), step))
    starts = starts[:: max(1, len(starts) // 6)]
    count = sum(len(sentences[at : at + step]) for at in starts)

    def texts() -> None:
        for at in starts:
            model.encode_sentences(sentences[at : at + step])

    image, sentence = work.seconds(floor) / batch, work.seconds(texts) / count
    features, words = model.encode_preprocessed(images), model.encode_sentences(sentences[:batch])
    words = [words[at % len(words)] for at in range(batch)]
    record = {
        "dtype": dtype,
        "batch": batch,
        "images/s": 1 / image,
        "encode_preprocessed, images/s": batch / work.seconds(lambda: model.encode_preprocessed(images)),
        "sentences/s": 1 / sentence,
        "pairs/s": batch / work.seconds(lambda: model.align_features(features, words).saliency.cpu()),
        "floor of a run, s": image * len(images_of(work.data)) + sentence * len(sentences),
    }
    if dtype == "float32" and work.device.type == "cuda" and batch in work.batches[-2:]:
        # As on a CPU: sentences of equal length in batches of their own, without padding.
        model._on_cpu = True
        record["sentences/s without padding"] = count / work.seconds(texts)
        model._on_cpu = False
    return record


def images_of(data: Dataset) -> list[str]:
    return list(dict.fromkeys(one.image_id for one in data.instances))


# Whole runs.


@dataclass
class Clocked:
    """A model that notes when it was given images."""

    model: Gloria
    moments: list[tuple[float, int]] = field(default_factory=list)
    encoding: float = 0.0

    @property
    def card(self) -> ModelCard:
        return self.model.card

    def preprocess(self, image: LoadedImage) -> Preprocessed:
        return self.model.preprocess(image)

    def encode_preprocessed(self, images: Sequence[Preprocessed]) -> Sequence[Features]:
        self.moments.append((time.perf_counter(), len(images)))
        return self.model.encode_preprocessed(images)

    def encode_images(self, images: Sequence[LoadedImage]) -> Sequence[Features]:
        return self.encode_preprocessed([self.preprocess(image) for image in images])

    def encode_sentences(self, sentences: Sequence[str]) -> Sequence[Features]:
        return self.model.encode_sentences(sentences)

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        return self.model.align_features(images, sentences)

    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        return self.model.global_similarity_matrix(images, sentences)

    def steady(self) -> tuple[float, float, float]:
        """Images a second from a quarter of the images on, and when that time began and ended."""
        total, seen, begin = sum(count for _, count in self.moments), 0, 0
        for at, (_, count) in enumerate(self.moments):
            if seen >= total / 4:
                begin = at
                break
            seen += count
        first, last = self.moments[begin][0], self.moments[-1][0]
        between = sum(count for _, count in self.moments[begin:-1])
        return between / (last - first) if last > first else float("nan"), first, last


class Utilisation:
    """NVML's utilisation of the device in percent, sampled in a thread."""

    def __init__(self, device: torch.device) -> None:
        self.samples: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._device = device

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            import pynvml  # type: ignore[import-not-found]

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(self._device.index or 0)
            while not self._stop.wait(0.02):
                self.samples.append((time.perf_counter(), pynvml.nvmlDeviceGetUtilizationRates(handle).gpu))
        except Exception as error:
            print(f"no utilisation from NVML: {error}", flush=True)  # noqa: T201

    def mean(self, begin: float, end: float) -> float | None:
        seen = [value for moment, value in self.samples if begin <= moment <= end]
        return float(np.mean(seen)) if seen else None


def part_of(data: Dataset, count: int) -> Dataset:
    """The first images of a dataset."""
    chosen = set(images_of(data)[:count])
    return Dataset(data.name, tuple(one for one in data.instances if one.image_id in chosen))


def one_run(work: Work, dtype: str, batch: int, films: int, **options: Any) -> Record:
    data = part_of(work.data, films)
    model = Clocked(work.model(dtype))
    known = inspect.signature(evaluate).parameters
    if "scoring_workers" in known:
        options.setdefault("scoring_workers", work.scoring_workers)
    options = {key: value for key, value in options.items() if key in known}
    if work.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(work.device)
    start = time.perf_counter()
    with Utilisation(work.device) as busy:
        results = evaluate(model, data, SUITE, batch_size=batch, **options)
    wall = time.perf_counter() - start
    rate, begin, end = model.steady()
    seconds = results.run.manifest.seconds
    floor = work.floors.get((dtype, batch))
    images = len(images_of(data))
    share = None if floor is None else floor * images / len(images_of(work.data))
    return {
        "dtype": dtype,
        "batch": batch,
        **options,
        "images": images,
        "wall s": wall,
        "images/s": rate,
        "instances/s": rate * len(data.instances) / images,
        "steady wall / floor": None if share is None else images / rate / share,
        "NVML %": busy.mean(begin, end),
        "device MiB": torch.cuda.max_memory_allocated(work.device) / 2**20 if work.device.type == "cuda" else None,
        "seconds": dict(seconds),
        "encoded sentences": results.run.manifest.encoded_sentences,
        "pairs": results.run.manifest.aligned_pairs,
    }


def runs(work: Work) -> list[Record]:
    count = len(images_of(work.data))
    one_run(work, "float32", work.batches[-1], min(count, 64))  # what happens once in a process
    rows = []
    for batch in work.batches:
        rows.append(attempt(partial(one_run, work, "float32", batch, min(count, max(64, 32 * batch)))))
        show("run", [rows[-1]])
    big = work.batches[-2]
    no_options: Record = {}
    processors = os.cpu_count() or 1
    for dtype, options in (
        ("bfloat16", no_options),
        *([("float16", no_options)] if "float16" in work.dtypes else []),
        ("float32", {"workers": processors}),
        ("float32", {"decode_at_least": 512, "workers": processors}),
        ("bfloat16", {"decode_at_least": 512, "workers": processors}),
        ("float32", {"scoring_workers": 0}),
    ):
        rows.append(attempt(partial(one_run, work, dtype, big, count, **options)))
        show("run", [rows[-1]])
    return rows


def busy(work: Work) -> list[Record]:
    """The share of the time in which a kernel or a copy runs, from a profile: between the first quarter of kernels and the last twentieth."""
    if work.device.type != "cuda":
        return [{"skipped": "no CUDA device"}]
    from torch.profiler import ProfilerActivity, profile

    rows = []
    for dtype, batch in (("float32", work.batches[-2]), ("float32", work.batches[-1]), ("bfloat16", work.batches[-2])):
        with profile(activities=[ProfilerActivity.CUDA]) as made:
            run = one_run(work, dtype, batch, len(images_of(work.data)), workers=os.cpu_count() or 1)
        spans = sorted(
            (event.start_ns(), event.start_ns() + event.duration_ns(), event.name())
            for event in made.profiler.kineto_results.events()
            if event.device_type() == torch.profiler.DeviceType.CUDA
        )
        spans = spans[len(spans) // 4 : len(spans) - len(spans) // 20]
        running, until = 0, spans[0][0]
        by_kernel: dict[str, int] = {}
        for begin, end, name in spans:
            running += max(0, end - max(begin, until))
            until = max(until, end)
            by_kernel[name[:60]] = by_kernel.get(name[:60], 0) + end - begin
        most = sorted(by_kernel.items(), key=lambda one: -one[1])[:8]
        rows.append(
            {
                "dtype": dtype,
                "batch": batch,
                "busy": running / (until - spans[0][0]),
                "kernels and copies": len(spans),
                "images/s under the profiler": run["images/s"],
                "NVML %": run["NVML %"],
                "longest": {name: taken / running for name, taken in most},
            }
        )
    return rows


# Variants of the image encoder.


def variants(work: Work) -> list[Record]:
    rows = []
    for dtype in ("float32", "bfloat16"):
        model = work.model(dtype)
        encoder = model._network.img_encoder
        for batch in sorted({1, 16, work.batches[-2]}):
            pixels = normalise(torch.stack([one.pixels for one in prepared(model, work.data, batch)]).to(work.device))
            for name, make in VARIANTS.items():
                if name != "as it is" and work.device.type != "cuda" and name != "contiguous":
                    continue
                if name == "torch.compile" and batch == 16:
                    continue
                try:
                    with torch.no_grad(), full_precision(work.device):
                        expected = encoder(pixels[:, None])[0]
                        begin = time.perf_counter()
                        call = make(encoder, pixels[:, None])
                        call()
                        work.wait()
                        ready = time.perf_counter() - begin
                        off = float((call()[0].float() - expected.float()).abs().max() / expected.float().abs().max())
                        rows.append(
                            {
                                "dtype": dtype,
                                "batch": batch,
                                "variant": name,
                                "images/s": batch / work.seconds(call),
                                "difference": off,
                                "s until ready": ready,
                            }
                        )
                except Exception as error:
                    rows.append({"dtype": dtype, "batch": batch, "variant": name, "error": str(error)[:200]})
    return rows


Encoder = Any
Call = Callable[[], tuple[torch.Tensor, torch.Tensor]]


def as_it_is(encoder: Encoder, pixels: torch.Tensor) -> Call:
    return lambda: encoder(pixels)


def contiguous(encoder: Encoder, pixels: torch.Tensor) -> Call:
    other = deepcopy(encoder).to(memory_format=torch.contiguous_format)
    # The encoder asks for channels last; the first convolution then follows its weight.
    return lambda: other(pixels)


def searched(encoder: Encoder, pixels: torch.Tensor) -> Call:
    def call() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False):
            out: tuple[torch.Tensor, torch.Tensor] = encoder(pixels)
            return out

    return call


def graph(encoder: Encoder, pixels: torch.Tensor) -> Call:
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            encoder(pixels)
    torch.cuda.current_stream().wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        out = encoder(pixels)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        recorded.replay()
        return out  # type: ignore[no-any-return]

    return call


def compiled(encoder: Encoder, pixels: torch.Tensor) -> Call:
    fast = torch.compile(encoder)
    return lambda: fast(pixels)


VARIANTS: dict[str, Callable[[Encoder, torch.Tensor], Call]] = {
    "as it is": as_it_is,
    "contiguous": contiguous,
    "cuDNN's search": searched,
    "CUDA graph": graph,
    "torch.compile": compiled,
}


# Printing.


def show(title: str, rows: Record | list[Record]) -> None:
    if isinstance(rows, dict):
        print(f"\n{title}\n{json.dumps(rows, indent=1, default=str)}", flush=True)  # noqa: T201
        return
    nested = {key for row in rows for key, value in row.items() if isinstance(value, dict)}
    flat = [{key: value for key, value in row.items() if key not in nested} for row in rows]
    print(f"\n{title}\n{tabulate(flat, headers='keys', floatfmt='.4g', tablefmt='github')}", flush=True)  # noqa: T201
    for row in rows:
        for key in sorted(nested & set(row)):
            print(f"  {key}: {json.dumps(row[key])}", flush=True)  # noqa: T201


SECTIONS: dict[str, tuple[Callable[[Work], Any], float]] = {
    "exactness": (exactness, 0.0),
    "encoders": (encoders, 0.0),
    "runs": (runs, 0.0),
    "busy": (busy, 0.2),
    "variants": (variants, 0.3),
}
"""Sections, and the share of the seconds that must be left for one to begin."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for films and weights (1 GB)")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--films", type=int, default=1024)
    parser.add_argument("--files", type=int, default=64, help="how many different films are written")
    parser.add_argument("--checked", type=int, default=8, help="films that are compared with the CPU")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scoring-workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=220)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="sections, several times")
    parser.add_argument("--tiny", action="store_true", help="small encoders, small films, few batches")
    given = parser.parse_args()
    start = time.perf_counter()
    device = torch.device(given.device)
    count, checked = (24, 2) if given.tiny else (given.films, given.checked)
    data = films(given.folder, count, (400, 464) if given.tiny else MEGAPIXELS_7_5, min(given.files, count))
    arguments = write_gloria(
        given.folder / ("tiny" if given.tiny else "released"), data, TINY if given.tiny else RELEASED
    )
    record: Record = {
        "machine": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
            "processors": os.cpu_count(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "films": count,
        "instances": len(data.instances),
        "sentences": len(sentences_of(data)),
        "made ready, s": time.perf_counter() - start,
    }
    show("machine", record)
    workers = 0 if given.tiny else given.scoring_workers
    work = Work(
        device, data, part_of(data, checked), arguments, BATCHES[:3] if given.tiny else BATCHES, workers,
        0.02 if given.tiny else 0.4,
    )  # fmt: skip
    for name, (section, needed) in SECTIONS.items():
        if given.only and name not in given.only:
            continue
        left = given.seconds - (time.perf_counter() - start)
        if left < needed * given.seconds:
            record[name] = {"skipped": f"{left:.0f} s are left"}
            continue
        begin = time.perf_counter()
        try:
            record[name] = section(work)
        except Exception as error:
            traceback.print_exc()
            record[name] = {"error": f"{type(error).__name__}: {error}"}
        record[f"{name}, s"] = time.perf_counter() - begin
        show(f"{name} ({record[f'{name}, s']:.0f} s)", record[name])
        given.out.write_text(json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
