"""Training in the released frame from a BERT and a ResNet: what is taken from them, and what is refused.

In miniature: a BERT of 16 dimensions, a ResNet of one block a stage, generated films in Chest ImaGenome's format.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from wronglung.adapters.gloria.adapter import load
from wronglung.adapters.gloria.design import read_design
from wronglung.adapters.gloria.network import GloriaNetwork
from wronglung.adapters.gloria.text import Captions
from wronglung.adapters.gloria.training.config import TrainingConfig, load_config
from wronglung.adapters.gloria.training.model import make_network
from wronglung.adapters.gloria.training.run import train
from wronglung.adapters.networks.resnet import ResNet, ResNetShape
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.imagenome_tree import write_tree
from wronglung.benchmark.datasets.phantom import read as phantom
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Dataset

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
PIECES = [
    "[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
    "right", "left", "lung", "the", "in", "no", "is", "effusion", "##s", "pneumo", "##thorax", "opac", "##ity",
    *LETTERS, *(f"##{letter}" for letter in LETTERS),
]  # fmt: skip
Folder = Callable[..., Path]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers writes it, pooler included."""
    folder = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=len(PIECES), hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=128, layer_norm_eps=1e-7,
    )  # fmt: skip
    torch.manual_seed(5)
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return folder


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torchvision state dict, classifier included."""
    torch.manual_seed(6)
    state = ResNet(ResNetShape((1, 1, 1, 1), bottleneck=True, width=8)).state_dict()
    path = tmp_path_factory.mktemp("resnet") / "resnet.pth"
    torch.save({**state, "fc.weight": torch.zeros(1000, 256), "fc.bias": torch.zeros(1000)}, path)
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(phantom(size=96, patients=30, split="all"), tmp_path_factory.mktemp("data") / "tree")


@pytest.fixture(scope="module")
def splits(tree: Path) -> tuple[Dataset, Dataset]:
    return (
        load_dataset("imagenome-silver", tree, split="train"),
        load_dataset("imagenome-silver", tree, split="valid"),
    )


def config(bert: Path | str, *changes: str) -> TrainingConfig:
    small = (
        f"text.bert={bert}", "dimensions=16", "image.blocks=[1,1,1,1]", "image.width=8", "image.inner=160",
        "batch_size=8", "epochs=1", "validation_instances=0", "workers=0",
    )  # fmt: skip
    return load_config("retrained", "released", changes=[*small, *changes])


def network(settings: TrainingConfig) -> GloriaNetwork:
    torch.manual_seed(settings.seed)
    return make_network(settings, len(PIECES))


class TestStart:
    def test_berts_weights_are_those_of_the_folder(self, bert: Path) -> None:
        own = network(config(bert)).text_encoder.model.state_dict()
        given = BertModel.from_pretrained(bert, add_pooling_layer=False).state_dict()
        assert own.keys() == given.keys()
        assert all(torch.equal(own[key], given[key]) for key in given)

    def test_without_pretraining_only_its_sizes_are(self, bert: Path) -> None:
        model = network(config(bert, "text.pretrained=false")).text_encoder.model
        given = BertModel.from_pretrained(bert, add_pooling_layer=False).state_dict()
        key = "encoder.layer.1.output.dense.weight"
        assert model.state_dict()[key].shape == given[key].shape
        assert not torch.equal(model.state_dict()[key], given[key])
        assert (model.config.num_attention_heads, model.config.layer_norm_eps) == (4, 1e-7)

    def test_the_resnets_weights_are_those_of_the_file_without_the_classifier(self, bert: Path, resnet: Path) -> None:
        own = network(config(bert, f"image.weights={resnet}")).img_encoder.model.state_dict()
        given = torch.load(resnet, weights_only=True)
        assert given.keys() - own.keys() == {"fc.weight", "fc.bias"}
        assert all(torch.equal(own[key], given[key]) for key in own)

    def test_transformers_reports_do_not_reach_the_user(self, bert: Path, capfd: pytest.CaptureFixture[str]) -> None:
        network(config(bert))
        assert capfd.readouterr() == ("", "")


class TestRefusals:
    @pytest.fixture
    def copy(self, bert: Path, tmp_path: Path) -> Folder:
        def changed(**settings: int) -> Path:
            folder = tmp_path / "copy"
            shutil.copytree(bert, folder)
            told = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(told | settings))
            return folder

        return changed

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"hidden_size": 32}, "has 32 dimensions; set dimensions=32"),
            ({"num_attention_heads": 3}, "3 attention heads, which do not divide 16"),
            ({"max_position_embeddings": 64}, "64 positions; captions need 97"),
            ({"intermediate_size": 64}, r"of shape \(32,\), its config.json says \(64,\)"),
            ({"num_hidden_layers": 3}, r"its weights have no 'encoder.layer.2.*', which its config.json asks for"),
        ],
    )
    def test_a_configuration_that_does_not_fit(self, settings: dict[str, int], message: str, copy: Folder) -> None:
        with pytest.raises(WronglungError, match=message):
            network(config(copy(**settings)))

    def test_a_vocabulary_that_does_not_fit_the_weights(self, copy: Folder) -> None:
        with pytest.raises(WronglungError, match=rf"its vocab.txt says \({len(PIECES) + 1}, 16\)"):
            make_network(config(copy()), len(PIECES) + 1)

    def test_a_folder_without_weights_and_one_with_damaged_ones(self, copy: Folder) -> None:
        folder = copy()
        (folder / "model.safetensors").write_bytes(b"no weights")
        with pytest.raises(WronglungError, match="cannot be loaded .* or text.pretrained=false"):
            network(config(folder))
        (folder / "model.safetensors").unlink()
        with pytest.raises(WronglungError, match="cannot be loaded .* or text.pretrained=false"):
            network(config(folder))
        network(config(folder, "text.pretrained=false"))

    def test_a_bert_that_is_nowhere_is_asked_for_in_terms_of_training(self) -> None:
        with pytest.raises(WronglungError, match="is no folder, .*--set text.bert=FOLDER"):
            network(config("no such/ folder"))

    def test_a_resnet_of_another_design_or_none(self, bert: Path, resnet: Path, tmp_path: Path) -> None:
        def start(*changes: str) -> None:
            network(config(bert, f"image.weights={resnet}", *changes))

        with pytest.raises(WronglungError, match=r"'conv1.weight' has shape \(8, 3, 7, 7\), .* needs \(16, 3, 7, 7\)"):
            start("image.width=16")
        with pytest.raises(WronglungError, match=r"has no 'layer2.1.conv1.weight'"):
            start("image.blocks=[1,2,1,1]")
        with pytest.raises(WronglungError, match=r"'layer1.0.conv1.weight' has shape .*, a ResNet-10 of width 8 needs"):
            start("image.bottleneck=false")
        more = {**torch.load(resnet, weights_only=True), "layer1.1.conv1.weight": torch.zeros(8, 32, 1, 1)}
        torch.save(more, tmp_path / "more.pth")
        with pytest.raises(WronglungError, match=r"'layer1.1.conv1.weight' is unknown to a ResNet-14"):
            start(f"image.weights={tmp_path / 'more.pth'}")
        with pytest.raises(WronglungError, match=r"image.weights .*none.pth: no such file"):
            start(f"image.weights={tmp_path / 'none.pth'}")


@pytest.fixture(scope="module")
def run(splits: tuple[Dataset, Dataset], bert: Path, resnet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    changes = ("epochs=8", f"image.weights={resnet}", "optimizer.learning_rate=0.002", "save_every=2")
    train(config(bert, *changes), *splits, out)
    return out


class TestTraining:
    def test_the_checkpoint_carries_the_vocabulary_and_the_released_design(self, run: Path, bert: Path) -> None:
        found = read_design(run / "best.safetensors")
        assert found is not None
        design, vocabulary = found
        assert vocabulary == (bert / "vocab.txt").read_bytes()
        assert (design.cleaning, design.tokens, design.stem) == ("released", "cls+words", "imagenet")
        assert (design.longer_side, design.crop, design.heads, design.layer_norm_eps) == (256, 224, 4, 1e-7)

    def test_the_checkpoint_is_a_model_that_reads_word_pieces(self, run: Path) -> None:
        model = load(run / "best.safetensors")
        assert model.card.settings["tokens"] == "cls+words"
        found = read_design(run / "best.safetensors")
        assert found is not None
        caption = Captions(found[1], "checkpoint")(["No pneumothorax, right lung opacity."])[0]
        assert caption.pieces[1:6] == ("no", "pneumo", "##thorax", "right", "lung")
        assert [one for one in check_adapter(model) if one.outcome == "failed"] == []

    def test_the_loss_falls(self, run: Path) -> None:
        losses = [float(row["train_loss"]) for row in csv.DictReader((run / "log.csv").read_text().splitlines())]
        assert len(losses) == 8
        assert losses[-1] < 0.95 * losses[0]

    def test_everything_of_the_released_size_at_once_repeats(
        self, splits: tuple[Dataset, Dataset], bert: Path, tmp_path: Path
    ) -> None:
        """Accumulated bfloat16 batches, decoded by processes of their own."""
        settings = config(bert, "accumulate=2", "batch_size=4", "precision=bfloat16", "workers=2")
        for name in "ab":
            train(settings, *splits, tmp_path / name)
        a, b = ((tmp_path / name / "last.safetensors").read_bytes() for name in "ab")
        assert a == b
