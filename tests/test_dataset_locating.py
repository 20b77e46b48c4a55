"""How a collection is found from what a user points at, and what its labels become."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wronglung.benchmark.datasets.class_labels import class_prompts, label_instance, label_instance_id
from wronglung.benchmark.datasets.coordinates import to_number
from wronglung.benchmark.datasets.locating import find_file, find_images
from wronglung.benchmark.datasets.prompts import load_prompts
from wronglung.benchmark.datasets.rules import Ledger
from wronglung.benchmark.datasets.tables import read_table
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Finding, ImageRef, Instance

IMAGE = ImageRef("7", Path("7.png"), 40, 30)


def put(file: Path, content: bytes = b"x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def save(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4)).save(file)


@pytest.mark.parametrize("place", ["a.csv", "x/a.csv", "x/y/a.csv", "x/y/z/a.csv"])
def test_a_file_is_found_down_to_three_levels_below(tmp_path: Path, place: str) -> None:
    file = put(tmp_path / place)
    assert find_file(tmp_path, ["a.csv"], "fix") == file
    assert find_file(file, ["other.csv"], "fix") == file, "a file that is given is taken as it is"


def test_a_file_deeper_than_that_is_not_there(tmp_path: Path) -> None:
    put(tmp_path / "w" / "x" / "y" / "z" / "a.csv")
    with pytest.raises(WronglungError) as caught:
        find_file(tmp_path, ["a.csv", "b.csv"], "give the folder")
    assert str(caught.value) == (
        f"{tmp_path}: no a.csv or b.csv in this folder or three levels below it; give the folder"
    )


def test_the_first_name_is_wanted_most_then_the_least_deep(tmp_path: Path) -> None:
    put(tmp_path / "b.csv")
    deep = put(tmp_path / "x" / "y" / "a.csv")
    assert find_file(tmp_path, ["a.csv", "b.csv"], "") == deep
    near = put(tmp_path / "z" / "a.csv")
    assert find_file(tmp_path, ["a.csv", "b.csv"], "") == near


def test_a_name_may_have_a_folder(tmp_path: Path) -> None:
    file = put(tmp_path / "x" / "annotations" / "a.csv")
    assert find_file(tmp_path, ["annotations/a.csv"], "") == file


def test_a_table_may_be_gzipped_and_a_document_not(tmp_path: Path) -> None:
    file = put(tmp_path / "a.csv.gz", gzip.compress(b"n\n1\n"))
    assert list(read_table(find_file(tmp_path, ["a.csv"], ""), ["n"])) == [(2, ("1",))]
    file.rename(tmp_path / "a.json.gz")
    with pytest.raises(WronglungError, match="no a.json"):
        find_file(tmp_path, ["a.json"], "")


def test_the_place_with_the_most_images_counts(tmp_path: Path) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    save(few / "1.png")
    for name in ("1.png", "x/2.jpg", "x/y/03.png"):
        save(many / name)
    wanted = ["1", "2", "03", "4"]
    assert find_images([few, many], None, wanted, "") == (many, {"1": "1.png", "2": "x/2.jpg", "03": "x/y/03.png"})
    assert find_images([few, many], None, ["1"], "")[0] == few, "the first of equals"
    assert find_images([many], few, wanted, "")[0] == few, "a folder that the user names"


def test_a_place_without_any_image_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "1.png")
    with pytest.raises(WronglungError) as caught:
        find_images([tmp_path, tmp_path], None, ["2", "3"], "do this")
    assert str(caught.value) == f"{tmp_path}: none of the 2 images that are needed is in there; do this"
    with pytest.raises(WronglungError, match="none: is not a folder; images is the folder in which the images are"):
        find_images([tmp_path], tmp_path / "none", ["1"], "")
    assert find_images([tmp_path], None, [], "")[0] == tmp_path, "nothing is wanted, nothing is missing"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12.5", 12.5), (" -3 ", -3), ("1e2", 100), ("", None), ("x", None), ("nan", None), ("inf", None), ("1e999", None),
        ("1,5", None), ("0x10", None),
    ],
)  # fmt: skip
def test_the_number_of_a_cell(text: str, number: float | None) -> None:
    assert to_number(text) == number


@given(st.text())
def test_no_cell_is_a_traceback(text: str) -> None:
    to_number(text)


def test_sentences_of_labels() -> None:
    prompts = class_prompts("nih-chestxray14", "there-is")
    assert prompts.sentence("Effusion") == prompts.sentence("effusion") == "There is pleural effusion."
    assert prompts.sentence("Pleural Other") == "There is pleural other.", (
        "a label that is not listed is its own phrase"
    )


@pytest.mark.parametrize("dataset", load_prompts().phrases)
@pytest.mark.parametrize("template", load_prompts().templates)
def test_every_sentence_names_what_its_boxes_are_called(dataset: str, template: str) -> None:
    prompts = class_prompts(dataset, template)
    for label in load_prompts().phrases[dataset]:
        name = prompts.name(label)
        assert name
        assert not name.startswith(("a ", "an "))
        assert name in prompts.sentence(label).lower()


@pytest.mark.parametrize(
    ("label", "name"),
    [("Lung Lesion", "7_lung-lesion"), ("Pleural_Thickening", "7_pleural-thickening"), ("  a  b ", "7_a-b")],
)
def test_the_id_of_a_label_on_an_image(label: str, name: str) -> None:
    assert label_instance_id("7", label) == name


@given(
    st.text("ab_ ", max_size=4), st.text("ab_ ", max_size=4), st.text("ab_ ", max_size=4), st.text("ab_ ", max_size=4)
)
def test_ids_of_different_images_differ(image: str, label: str, other_image: str, other_label: str) -> None:
    if image != other_image:
        assert label_instance_id(image, label) != label_instance_id(other_image, other_label)


def test_the_instance_of_a_label() -> None:
    ledger = Ledger()
    prompts = class_prompts("vindr-cxr", "phrase")
    box = Box("ild", 1, 2, 3, 4)
    made = label_instance(IMAGE, "ILD", [box, box], prompts, ledger, study_id="s", patient_id="p", split="test")
    finding = Finding("ild", "yes", "")
    assert made == Instance("7_ild", IMAGE, "Interstitial lung disease", (box,), (finding,), "s", "p", "test")
    assert label_instance(IMAGE, "Edema", [], prompts, ledger) is None
    assert [(one.reason, one.where, one.repaired) for one in ledger.entries] == [
        ("duplicate_row", "7_ild", True),
        ("no_valid_box", "7_edema", False),
    ]
