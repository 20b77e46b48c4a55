"""The page on metrics of the documentation, written from their cards: ``python -m wronglung.benchmark.metrics.page``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from math import inf

from .cards import CARDS
from .metric import Metric

_INTRODUCTION = """\
# Metrics

Written from the cards in `benchmark/metrics/cards.py` by `python -m wronglung.benchmark.metrics.page > docs/metrics.md`.
`wronglung show NAME` prints one card.

Every figure is computed for each map and target on the scoring grid of the suite ([protocol.md](protocol.md)); "the boxes" are
the target: the union of the boxes that the sentence refers to, or of the masks where the dataset has some. "Undefined" values
are left out of means and counted. Pixels that the model never saw rank last. A margin is the smallest change that counts, in the metric's own units; comparisons may set
another. Diagnostics describe a map and rank nothing.

The measures to read first:
{headline}.
They take no threshold and share ties by expectation, and all but `laterality_index` are the same for a map that is scaled or
shifted.

Where the field has several variants of a measure, the name says which one it is. Those that `wrong-lung` leaves out are for
figures that can be set beside published ones; a suite of your own asks for them:

```yaml
name: conventions
version: "1.0"
description: Variants that publications use.
tasks: [original, swap_left_right]
subsets: [all, one_lung]
metrics: [auroc, cnr_absolute, miou_clamp, pointing_game_first, pointing_game_tolerance15, mdice_minmax, mass_inside_lift]
```
"""


def page() -> str:
    """The page in Markdown; metrics that differ in nothing but a percentage share a row."""
    headline = ", ".join(f"`{card.name}`" for card in CARDS if card.headline)
    rows = _families(CARDS)
    what = [
        (names, _number_free(card, card.summary), _range(card), _direction(card), _margin(card)) for names, card in rows
    ]
    how = [(names, _number_free(card, card.ties) or "–", card.degenerate or "–", card.source) for names, card in rows]
    return "\n".join(
        (
            _INTRODUCTION.format(headline=headline),
            "## What they are\n",
            *_table(("metric", "definition", "range", "better", "margin"), what),
            "\n## Ties, degenerate input, sources\n",
            *_table(("metric", "ties", "degenerate input", "source"), how),
            "",
        )
    )


def _families(cards: Iterable[Metric]) -> list[tuple[str, Metric]]:
    families: dict[str, list[Metric]] = {}
    for card in cards:
        families.setdefault(card.name.partition("@")[0], []).append(card)
    return [(", ".join(f"`{one.name}`" for one in family), family[0]) for family in families.values()]


def _number_free(card: Metric, text: str) -> str:
    percent = card.name.partition("@")[2]
    return re.sub(rf"(?<=@){percent}\b|\b{percent}(?= %)", "p", text) if percent else text


def _range(card: Metric) -> str:
    low, high = ("−∞" if end == -inf else "∞" if end == inf else f"{end:g}".replace("-", "−") for end in card.range)
    return f"{low} … {high}"


def _direction(card: Metric) -> str:
    return {True: "higher", False: "lower", None: "diagnostic"}[card.higher_is_better]


def _margin(card: Metric) -> str:
    return "–" if card.margin is None else f"{card.margin:g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    sys.stdout.write(page())
