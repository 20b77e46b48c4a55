"""Models: one family a module or folder. A built-in model is one line in the catalogue."""

from __future__ import annotations

from ..benchmark.registry import Entry

CATALOGUE = {
    "uniform": Entry("wronglung.adapters.floors:uniform", "floor: the same value everywhere"),
    "center-prior": Entry("wronglung.adapters.floors:center_prior", "floor: a blob in the middle of the image"),
    "random": Entry("wronglung.adapters.floors:random", "floor: noise, new for each image and sentence"),
    "text-blind": Entry("wronglung.adapters.floors:text_blind", "floor: image-only saliency (spectral residual)"),
    "oracle": Entry("wronglung.adapters.oracle:oracle", "ceiling: lights the boxes of the regions the sentence names"),
    "mirrored-oracle": Entry("wronglung.adapters.oracle:mirrored_oracle", "the oracle with left and right swapped"),
    "gloria": Entry("wronglung.adapters.gloria.adapter:load", "GLoRIA: word-region attention (checkpoint=PATH)"),
}

_VARIANTS = {
    "retrained": "small GLoRIA trained on phantom, as its authors do",
    "abnormal": "the same, on sentences with an abnormal finding",
    "masking": "the same, with clinical entities masked",
    "random-sentences": "the same, on sentences of other patients",
    "no-attention": "the same, with attention to no region at all",
    "word-masking": "the same, with any words masked",
}
CATALOGUE |= {
    f"gloria-phantom-{variant}": Entry(f"wronglung.adapters.gloria.shipped:{variant.replace('-', '_')}", summary)
    for variant, summary in _VARIANTS.items()
}
