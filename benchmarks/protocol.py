"""The whole suite `wrong-lung` with a GLoRIA of the released size, against a plain program, on films of 7.5 megapixels.

    python benchmarks/protocol.py FOLDER [--films 24] [--plain 4] [--rounds 3] [--profile]

The plain program does what released research code does: for each task it decodes the film, encodes it and the sentence (padded to 32
and to 97 word pieces), and scores with scikit-learn, one instance after another. Both have the same weights (random, written once). In each
round it does all tasks of some instances, and then `evaluate` runs all films; printed are milliseconds of CPU an instance and
medians of the rounds' ratios, how far the values of both differ, what a further task costs, and what the harness adds to the
encoders. Everything runs on one thread, except that `evaluate` decodes in a second one.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import hashlib
import pstats
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score
from tabulate import tabulate
from torch.nn import functional
from workload import MEGAPIXELS_7_5, RELEASED, TINY, Watched, films, write_gloria

from wronglung import Dataset, Results, evaluate, load_model, load_suite
from wronglung.adapters.gloria.attention import (
    TEMPERATURE_ATTENTION,
    mean_over_words,
    saliency_slots,
    slot_mask,
    word_region_attention,
)
from wronglung.adapters.gloria.checkpoint import build_network, read_weights
from wronglung.adapters.gloria.network import word_weights
from wronglung.adapters.gloria.preprocessing import geometry, model_input, normalise
from wronglung.adapters.gloria.text import BertFiles, Captions
from wronglung.benchmark.frames import scoring_frame
from wronglung.benchmark.plan import Plan, Question
from wronglung.tasks.schema import SuiteSpec

SUITE = "wrong-lung"
PADDINGS = (32, 97)


class Plain:
    """One question after another, everything anew."""

    def __init__(self, checkpoint: Path, bert: Path) -> None:
        files = BertFiles(bert / "vocab.txt", bert / "config.json", str(bert))
        self.network = build_network(read_weights(checkpoint), files, checkpoint)
        self.captions = Captions.read(files.vocabulary)
        self.resolution = load_suite(SUITE).protocol.resolution
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - start

    @torch.no_grad()
    def answer(self, question: Question) -> tuple[float, float]:
        """AUROC and average precision of a question that can be asked; NaN where the mask is empty or full."""
        assert question.trial is not None
        with self.time("decoding"), Image.open(question.instance.image.path) as film:
            levels = torch.tensor(model_input(film.convert("L")))
            where = geometry(*film.size)
        with self.time("image encoding"):
            regions, _ = self.network.img_encoder(normalise(levels)[None, None])
        (caption,) = self.captions([question.trial.sentence])
        for padding in PADDINGS:
            with self.time(f"sentence encoding, {padding} pieces"):
                ids = torch.tensor([[*caption.ids, *[0] * (padding - len(caption.ids))]])
                pieces = self.network.text_encoder(ids, slot_mask([(0, len(caption.ids))], padding).long())
                words = word_weights([caption], average=False) @ pieces[:, : len(caption.ids)]
        with self.time("attention"):
            counted = slot_mask([saliency_slots("cls+words", caption.counts)], words.shape[1])
            cells = regions.flatten(2).transpose(1, 2)
            attention = word_region_attention(words @ cells.transpose(1, 2), counted, TEMPERATURE_ATTENTION)
            saliency = mean_over_words(attention, counted).reshape(1, 1, *regions.shape[2:])
        with self.time("metrics"):
            side = where.frame_width
            pixels = functional.interpolate(saliency, (side, side), mode="bilinear")[0, 0].numpy().ravel()
            mask = scoring_frame(where, "model", self.resolution).mask(question.trial.boxes).reshape(-1)
            mask = np.asarray(mask)
            if mask.all() or not mask.any():
                return float("nan"), float("nan")
            values = float(roc_auc_score(mask, pixels)), float(average_precision_score(mask, pixels))
            for percent in (5, 10, 20, 30):
                top = pixels >= np.quantile(pixels, 1 - percent / 100)
                hits, chosen, positive = (top & mask).sum(), top.sum(), mask.sum()
                _ = hits / chosen, hits / positive, 2 * hits / (chosen + positive), hits / (top | mask).sum()
            _ = float(-(saliency * saliency.log()).sum())
        return values


def spread(questions: Sequence[Question], count: int) -> list[str]:
    """The ids of instances that lie evenly among all."""
    ids = list(dict.fromkeys(question.instance.id for question in questions))
    return [ids[at * len(ids) // count] for at in range(count)]


def cpu(call: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    call()
    return time.process_time() - start


def read_all(data: Dataset, model: Watched) -> None:
    """What a run does with files: read, digest, decode, and prepare each."""
    from wronglung.benchmark.protocol import LoadedImage

    for ref in {one.image_id: one.image for one in data.instances}.values():
        content = ref.read()
        hashlib.sha256(content).hexdigest()
        model.model.preprocess(LoadedImage(ref.id, ref.decoded(content)))


def with_tasks(suite: SuiteSpec, *names: str) -> SuiteSpec:
    return suite.model_copy(update={"tasks": tuple(task for task in suite.tasks if task.name in names)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=24)
    parser.add_argument("--plain", type=int, default=4, help="instances that the plain program does in a round")
    parser.add_argument("--rounds", type=int, default=3, help="against the plain program; 0 leaves it out")
    parser.add_argument("--profile", action="store_true", help="print where the time of one more `evaluate` goes")
    parser.add_argument("--tiny", action="store_true", help="small encoders and films: shows that the program works")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = films(given.folder, given.films, (400, 464) if given.tiny else MEGAPIXELS_7_5)
    folder = given.folder / ("tiny" if given.tiny else "released")
    arguments = write_gloria(folder, data, TINY if given.tiny else RELEASED)
    suite = load_suite(SUITE)

    model = Watched(load_model("gloria", device="cpu", **arguments))
    with_weights = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results = evaluate(model, data, suite, workers=1)
    made = results.run.manifest
    check_counts(made.encoded_images, made.encoded_sentences, data, suite)
    print(  # noqa: T201
        f"{given.films} films, {len(data.instances)} instances, {len(suite.tasks)} tasks: encoded were {made.encoded_images} images and "
        f"{made.encoded_sentences} sentences, {made.aligned_pairs} pairs aligned\n"
        f"peak memory {made.peak_memory_mb:.0f} MiB, {with_weights:.0f} MiB with the model loaded\n"
    )

    if given.rounds:
        against_plain(given, data, suite, results, folder, model)
    further(data, films(given.folder, 4 * given.films, (400, 464)), suite, model.model)
    if given.profile:
        profile = cProfile.Profile()
        profile.runcall(evaluate, model.model, data, suite, workers=1)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def check_counts(images: int, sentences: int, data: Dataset, suite: SuiteSpec) -> None:
    """Each image and each sentence, those for selection included, was encoded once."""
    plan = Plan(suite, data)
    asked = {one.trial.sentence for image in plan.images() for one in image.questions if one.trial is not None}
    expected = (len(plan.by_image), len(asked | {one.sentence for one in data.instances}))
    if (images, sentences) != expected:
        raise SystemExit(f"encoded were {images} images and {sentences} sentences; there are {expected}")


def against_plain(
    given: argparse.Namespace, data: Dataset, suite: SuiteSpec, results: Results, folder: Path, model: Watched
) -> None:
    plain = Plain(folder / "gloria.ckpt", folder)
    questions = [one for image in Plan(suite, data).images() for one in image.questions if one.trial is not None]
    chosen = spread(questions, given.plain)
    mine = [one for one in questions if one.instance.id in chosen]
    frame = results.instances
    named = zip(frame["instance_id"], frame["task"], strict=True)
    known = dict(zip(named, zip(frame["auroc"], frame["average_precision"], strict=True), strict=True))
    off = [0.0, 0.0]
    ours, stages, theirs = [], [], []
    for _ in range(given.rounds):
        plain.seconds.clear()
        for question in mine:
            expected = known[question.instance.id, suite.tasks[question.task].name]
            for at, value in enumerate(plain.answer(question)):
                if not np.isnan(value):
                    off[at] = max(off[at], abs(value - expected[at]))
        theirs.append({stage: seconds / len(chosen) for stage, seconds in plain.seconds.items()})
        model.seconds.clear()
        ours.append(cpu(lambda: evaluate(model, data, suite, workers=1)) / len(data.instances))
        stages.append({stage: seconds / len(data.instances) for stage, seconds in model.seconds.items()})
    reading = median(cpu(lambda: read_all(data, model)) for _ in range(given.rounds)) / len(data.instances)

    def middle(rows: Sequence[dict[str, float]], stage: str) -> float:
        return 1000 * median(row[stage] for row in rows)

    encoders = [sum(row.values()) for row in stages]
    rest = [total - reading - encoder for total, encoder in zip(ours, encoders, strict=True)]
    text = [f"sentence encoding, {padding} pieces" for padding in PADDINGS]
    columns = ["decoding", "image encoding", "attention", "metrics"]
    rows = []
    for padding, name in zip(PADDINGS, text, strict=True):
        totals = [sum(row[one] for one in (*columns, name)) for row in theirs]
        ratio = median(total / own for total, own in zip(totals, ours, strict=True))
        by_stage = [middle(theirs, one) for one in ("decoding", "image encoding", name, "attention", "metrics")]
        rows.append([f"plain, {padding} pieces", *by_stage, 1000 * median(totals), ratio])
    own = [middle(stages, one) for one in ("images", "sentences", "alignment")]
    rows.append(["evaluate", 1000 * reading, *own, 1000 * median(rest), 1000 * median(ours), 1.0])
    heads = ["CPU ms an instance", "decoding", "image", "sentence", "attention", "metrics, rest", "total", "ratio"]
    print(tabulate(rows, heads, floatfmt=".1f", tablefmt="github"))  # noqa: T201
    share = median(one / encoder for one, encoder in zip(rest, encoders, strict=True))
    print(  # noqa: T201
        f"\nlargest difference of {len(mine)} values: AUROC {off[0]:.1e}, average precision {off[1]:.1e}\n"
        f"what is neither decoding nor encoders, over encoders: {share:.1%}\n"
        f"wall time of the stages of one `evaluate`, s: {results.run.manifest.seconds}\n"
    )


def longer(model: Watched, data: Dataset, more: SuiteSpec, suite: SuiteSpec) -> float:
    """By how many seconds of CPU."""
    return cpu(lambda: evaluate(model, data, more, workers=1)) - cpu(lambda: evaluate(model, data, suite, workers=1))


def further(data: Dataset, small: Dataset, suite: SuiteSpec, model: object) -> None:
    """What one more task costs an instance, against a first pass over ``data``.

    The difference of whole runs would drown in the noise of decoding and encoding. So the same films are taken at a small size
    (``small``; the encoder's input has one size), images and sentences are encoded once before, and what a task costs once a run,
    such as its intervals, cancels in the difference of all films and half of them.
    """
    first = with_tasks(suite, "original")
    whole = cpu(lambda: evaluate(model, data, first, workers=1)) / len(data.instances)
    kept = Watched(model, keep=True)
    evaluate(kept, small, first, workers=1)
    images = list(dict.fromkeys(one.image_id for one in small.instances))
    chosen = set(images[: len(images) // 2])
    half = Dataset(small.name, tuple(one for one in small.instances if one.image_id in chosen))
    between = len(small.instances) - len(half.instances)
    rows = []
    for name in ("swap_left_right", "random_sentences", "synthetic", "shuffle_boxes", "random_boxes"):
        more = with_tasks(suite, "original", name)
        kept.seconds.clear()
        kept.calls.clear()
        evaluate(kept, small, more, workers=1)
        encoding, sentences = kept.seconds.get("sentences", 0.0), kept.calls.get("sentences", 0)
        if kept.calls.get("images"):
            raise SystemExit("an image was encoded twice")
        evaluate(kept, half, more, workers=1)
        each, once = [], []
        for _ in range(5):
            of_all, of_half = (longer(kept, one, more, first) for one in (small, half))
            each.append((of_all - of_half) / between)
            once.append(of_all - each[-1] * len(small.instances))
        cost = encoding / len(small.instances) + median(each)
        rows.append([name, sentences, 1000 * cost, cost / whole, 1000 * median(once)])
    print(f"{len(small.instances)} instances; first pass: {1000 * whole:.1f} ms of CPU an instance")  # noqa: T201
    heads = ["further task", "sentences to encode", "CPU ms an instance", "of the first pass", "and ms once a run"]
    print(tabulate(rows, heads, floatfmt=("", "", ".2f", ".4f", ".0f"), tablefmt="github"))  # noqa: T201


if __name__ == "__main__":
    main()
