"""Models: one family a module or folder. A built-in model is one line in the catalogue."""

from __future__ import annotations

from typing import Any

from ..benchmark.registry import Entry

_OPEN_CLIP = ("open_clip", "open-clip")

CATALOGUE = {
    "uniform": Entry("wronglung.adapters.floors:uniform", "floor: the same value everywhere"),
    "center-prior": Entry("wronglung.adapters.floors:center_prior", "floor: a blob in the middle of the image"),
    "random": Entry("wronglung.adapters.floors:random", "floor: noise, new for each image and sentence"),
    "text-blind": Entry("wronglung.adapters.floors:text_blind", "floor: image-only saliency (spectral residual)"),
    "oracle": Entry("wronglung.adapters.oracle:oracle", "ceiling: lights the boxes of the regions the sentence names"),
    "mirrored-oracle": Entry("wronglung.adapters.oracle:mirrored_oracle", "the oracle with left and right swapped"),
    "precomputed": Entry(
        "wronglung.adapters.precomputed.adapter:load", "a folder of maps made by any code", asks=("maps",)
    ),
    "box-file": Entry(
        "wronglung.adapters.precomputed.box_file:boxes", "boxes of any detector, from a JSON file", asks=("file",)
    ),
    "occlusion": Entry("wronglung.adapters.occlusion:load", "occlusion maps of another model", asks=("model",)),
    "gloria": Entry("wronglung.adapters.gloria.adapter:load", "GLoRIA: word-region attention", asks=("checkpoint",)),
    "open-clip": Entry(
        "wronglung.adapters.open_clip.adapter:load",
        "any model of open_clip: open-clip:ViT-B-16/openai, open-clip:hf-hub:NAME",
        module=_OPEN_CLIP,
        asks=("model",),
    ),
    "hf-clip": Entry(
        "wronglung.adapters.hf_clip:load", "CLIP in transformers' files: hf-clip:FOLDER", asks=("weights",)
    ),
    "hf-siglip": Entry(
        "wronglung.adapters.hf_siglip:load", "SigLIP in transformers' files: hf-siglip:FOLDER", asks=("weights",)
    ),
    "blip-itm": Entry("wronglung.adapters.blip_itm:load", "BLIP, image-text matching", asks=("weights",)),
    "owl-vit": Entry(
        "wronglung.adapters.owl_vit:load", "OWL-ViT and OWLv2, text to boxes", hub="google/owlvit-base-patch32"
    ),
    "grounding-dino": Entry(
        "wronglung.adapters.grounding_dino:load",
        "Grounding DINO, text to boxes",
        hub="IDEA-Research/grounding-dino-tiny",
    ),
    "uniter": Entry(
        "wronglung.adapters.uniter.adapter:load",
        "UNITER, attention of words to region features",
        asks=("checkpoint", "vocabulary", "regions"),
    ),
    "medclip": Entry("wronglung.adapters.medclip:load", "MedCLIP, ResNet-50 or Swin", asks=("weights",)),
    "cxr-clip": Entry("wronglung.adapters.cxr_clip:load", "CXR-CLIP, ResNet-50 or Swin", asks=("weights",)),
    "mgca": Entry(
        "wronglung.adapters.mgca.adapter:load", "MGCA, and ConVIRT as its authors train it", asks=("weights",)
    ),
}

_GLORIA = {
    "retrained": "small GLoRIA trained on phantom, as its authors do",
    "abnormal": "the same, on sentences with an abnormal finding",
    "masking": "the same, with clinical entities masked",
    "random-sentences": "the same, on sentences of other patients",
    "no-attention": "the same, with attention to no region at all",
    "word-masking": "the same, with any words masked",
}
CATALOGUE |= {
    f"gloria-phantom-{variant}": Entry(f"wronglung.adapters.gloria.shipped:{variant.replace('-', '_')}", summary)
    for variant, summary in _GLORIA.items()
}


def _preset(
    name: str,
    family: Entry,
    summary: str,
    *,
    version: str,
    hub: str | None = None,
    asks: tuple[str, ...] = (),
    **pinned: Any,
) -> tuple[str, Entry]:
    """A name that people expect, for a family with arguments pinned.

    The version goes into the card; raise its first number when figures stop being comparable. ``hub`` is where the weights
    come from, if ``weights`` does not say it.
    """
    pinned = {"name": name, **pinned}
    return name, Entry(family.target, summary, pinned, family.module, asks, hub or pinned.get("weights"), version)


_BIOVIL = Entry("wronglung.adapters.biovil.adapter:load", "")
_COSINE: dict[str, Any] = {"tau": 0.07, "local_similarity": "attention"}
_VALUE: dict[str, Any] = {"method": "value", **_COSINE}
_CLIP: dict[str, Any] = {**_VALUE, "resize_mode": "shortest"}

CATALOGUE |= dict(
    [
        _preset(
            "biovil",
            _BIOVIL,
            "BioViL, chest films and reports",
            version="1.0",
            weights="microsoft/BiomedVLP-CXR-BERT-specialized",
            method="similarity",
            smoothing=1.5,
            **_COSINE,
        ),
        _preset(
            "biovil-t",
            _BIOVIL,
            "BioViL-T without a prior film, chest films and reports",
            version="1.0",
            weights="microsoft/BiomedVLP-BioViL-T",
            method="similarity",
            smoothing=1.5,
            **_COSINE,
        ),
        _preset(
            "biomedclip",
            CATALOGUE["open-clip"],
            "BiomedCLIP, figures and captions of PubMed",
            version="1.0",
            hub="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
            model="hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
            trained_on="PMC-15M",
            **_CLIP,
        ),
        _preset(
            "pubmedclip",
            CATALOGUE["hf-clip"],
            "PubMedCLIP, CLIP ViT-B/32 on ROCO",
            version="1.0",
            weights="flaviagiammarino/pubmed-clip-vit-base-patch32",
            trained_on="WIT (OpenAI), ROCO",
            **_VALUE,
        ),
        _preset(
            "chexzero",
            CATALOGUE["open-clip"],
            "CheXzero, CLIP ViT-B/32 on MIMIC-CXR; one checkpoint or a folder of them",
            version="1.0",
            asks=("weights",),
            model="ViT-B-32-quickgelu",
            preprocess="chexzero",
            trained_on="WIT (OpenAI), MIMIC-CXR",
            **_VALUE,
        ),
        _preset(
            "openai/clip-vit-b-16",
            CATALOGUE["open-clip"],
            "OpenAI's CLIP, ViT-B/16",
            version="1.0",
            hub="timm/vit_base_patch16_clip_224.openai",
            model="ViT-B-16/openai",
            trained_on="WIT (OpenAI)",
            **_CLIP,
        ),
        _preset(
            "openai/clip-vit-b-32",
            CATALOGUE["open-clip"],
            "OpenAI's CLIP, ViT-B/32",
            version="1.0",
            hub="timm/vit_base_patch32_clip_224.openai",
            model="ViT-B-32/openai",
            trained_on="WIT (OpenAI)",
            **_CLIP,
        ),
        _preset(
            "openai/clip-rn50",
            CATALOGUE["open-clip"],
            "OpenAI's CLIP, ResNet-50",
            version="1.0",
            hub="timm/resnet50_clip.openai",
            model="RN50/openai",
            trained_on="WIT (OpenAI)",
            **_CLIP,
        ),
        _preset(
            "laion/clip-vit-b-16",
            CATALOGUE["open-clip"],
            "LAION's CLIP, ViT-B/16",
            version="1.0",
            hub="laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
            model="ViT-B-16/laion2b_s34b_b88k",
            trained_on="LAION-2B",
            **_CLIP,
        ),
        _preset(
            "siglip-b-16-224",
            CATALOGUE["hf-siglip"],
            "SigLIP, ViT-B/16",
            version="1.0",
            weights="google/siglip-base-patch16-224",
            trained_on="WebLI",
            **_VALUE,
        ),
        _preset(
            "siglip2-b-16-256",
            CATALOGUE["hf-siglip"],
            "SigLIP 2, ViT-B/16",
            version="1.0",
            weights="google/siglip2-base-patch16-256",
            trained_on="WebLI",
            **_VALUE,
        ),
        _preset(
            "medsiglip-448",
            CATALOGUE["hf-siglip"],
            "MedSigLIP, medical images and text; access on acceptance of terms",
            version="1.0",
            weights="google/medsiglip-448",
            square=True,
            trained_on="WebLI, MIMIC-CXR, other medical images",
            **_VALUE,
        ),
        _preset(
            "blip-itm-base-coco",
            CATALOGUE["blip-itm"],
            "BLIP base, image-text matching, tuned on COCO",
            version="1.0",
            weights="Salesforce/blip-itm-base-coco",
            method="gradcam",
            trained_on="COCO, Visual Genome, CC3M, CC12M, SBU, LAION",
        ),
        _preset(
            "owlvit-b-32",
            CATALOGUE["owl-vit"],
            "OWL-ViT, ViT-B/32",
            version="1.0",
            weights="google/owlvit-base-patch32",
            method="boxes",
        ),
        _preset(
            "owlv2-b-16",
            CATALOGUE["owl-vit"],
            "OWLv2, ViT-B/16",
            version="1.0",
            weights="google/owlv2-base-patch16-ensemble",
            method="boxes",
        ),
        _preset(
            "grounding-dino-tiny",
            CATALOGUE["grounding-dino"],
            "Grounding DINO, Swin-T",
            version="1.0",
            weights="IDEA-Research/grounding-dino-tiny",
        ),
    ]
)
