"""Models: one family a module or folder. A built-in model is one line in the catalogue."""

from __future__ import annotations

from ..benchmark.registry import Entry

_SHIPPED = "wronglung.adapters.gloria.shipped"

CATALOGUE = {
    "uniform": Entry("wronglung.adapters.floors:uniform", "floor: the same value everywhere"),
    "center-prior": Entry("wronglung.adapters.floors:center_prior", "floor: a blob in the middle of the image"),
    "random": Entry("wronglung.adapters.floors:random", "floor: noise, new for each image and sentence"),
    "text-blind": Entry("wronglung.adapters.floors:text_blind", "floor: image-only saliency (spectral residual)"),
    "oracle": Entry("wronglung.adapters.oracle:oracle", "ceiling: lights the boxes of the regions the sentence names"),
    "mirrored-oracle": Entry("wronglung.adapters.oracle:mirrored_oracle", "the oracle with left and right swapped"),
    "gloria": Entry("wronglung.adapters.gloria.adapter:load", "GLoRIA: word-region attention (checkpoint=PATH)"),
    "gloria-phantom-retrained": Entry(f"{_SHIPPED}:retrained", "small GLoRIA trained on phantom, as its authors do"),
    "gloria-phantom-abnormal": Entry(f"{_SHIPPED}:abnormal", "the same, on sentences with an abnormal finding"),
    "gloria-phantom-masking": Entry(f"{_SHIPPED}:masking", "the same, with clinical entities masked"),
    "gloria-phantom-random-sentences": Entry(
        f"{_SHIPPED}:random_sentences", "the same, on sentences of other patients"
    ),
    "gloria-phantom-no-attention": Entry(f"{_SHIPPED}:no_attention", "the same, with attention to no region at all"),
    "gloria-phantom-word-masking": Entry(f"{_SHIPPED}:word_masking", "the same, with any words masked"),
}
