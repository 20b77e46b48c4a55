"""What is finished of a run: parts are read as they were written or not at all, and a folder is one run's at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.instances import Skipped
from wronglung.benchmark.locking import locked
from wronglung.benchmark.parts import FolderParts, MemoryParts, Part, merge_counts
from wronglung.benchmark.results import RESULTS
from wronglung.benchmark.run_folder import claimed, describe_progress

IDENTITY = {"model": {"name": "a", "settings": {"layer": 1}}, "seed": 0, "suite": {"tasks": ["original"]}}


def part(first: int, *images: str, value: float = 1.0) -> Part:
    seen = images[:-1]
    return Part(
        first,
        images,
        pa.table({"image_id": list(seen), "auroc": [value] * len(seen)}),
        dict.fromkeys(seen, "0" * 64),
        (Skipped("image_unreadable", images[-1], "no such file"),),
        {"scoring": 0.25},
        {"pairs": len(seen)},
        {f"{image}/abc": np.full((2, 3), value, dtype=np.float32) for image in seen},
        {image: Geometry.squash(100, 80, 64, 64) for image in seen},
        pa.table({"image_id": list(seen), "local_similarity": [value] * len(seen)}),
    )


def content(one: Part) -> tuple[Any, ...]:
    """A part as values that can be compared."""
    return (
        one.first, one.images, one.rows.to_pydict(), dict(one.digests), one.skipped, dict(one.seconds), dict(one.counts),
        {key: array.tolist() for key, array in one.maps.items()}, len(one.maps), dict(one.geometries),
        None if one.pairs is None else one.pairs.to_pydict(),
    )  # fmt: skip


@pytest.fixture
def parts(tmp_path: Path) -> FolderParts:
    (tmp_path / "parts").mkdir()
    kept = FolderParts(tmp_path, "this run")
    kept.add(part(4, "d", "e", "f"))
    kept.add(part(0, "a", "b/c", "c", value=2.0))
    return kept


class TestParts:
    def test_a_folder_gives_back_what_memory_does(self, parts: FolderParts) -> None:
        memory = MemoryParts()
        memory.add(part(4, "d", "e", "f"))
        memory.add(part(0, "a", "b/c", "c", value=2.0))
        assert [content(one) for one in list(parts.each())] == [content(one) for one in memory.each()]
        assert parts.done() == memory.done() == {"a", "b/c", "c", "d", "e", "f"}
        assert merge_counts(list(parts.each())) == ({"scoring": 0.5}, {"pairs": 4})

    def test_a_part_without_maps(self, parts: FolderParts, tmp_path: Path) -> None:
        parts.add(Part(9, ("x",), pa.table({"image_id": ["x"]}), {}, (), {}, {}))
        assert (len(list(parts.each())[2].maps), list(parts.each())[2].pairs) == (0, None)
        assert {one.suffix for one in (tmp_path / "parts").glob("part-000000009.*")} == {".json", ".arrow"}

    def test_an_image_in_two_parts_counts_once(self, parts: FolderParts) -> None:
        parts.add(part(5, "e", "g", "b/c", "f", value=3.0))
        first, second, third = list(parts.each())
        assert (first.images, second.images, third.images) == (("a", "b/c", "c"), ("d", "e", "f"), ("g",))
        assert third.rows.to_pydict() == {"image_id": ["g"], "auroc": [3.0]}
        assert third.pairs is not None
        assert third.pairs["image_id"].to_pylist() == ["g"]
        assert (list(third.maps), list(third.geometries), list(third.digests)) == (["g/abc"], ["g"], ["g"])
        assert third.maps["g/abc"].tolist() == [[3.0] * 3] * 2
        assert third.skipped == ()

    def test_maps_are_those_that_lie_there_now(self, parts: FolderParts) -> None:
        """Also where another run's lay in the same place."""
        before = next(parts.each()).maps["a/abc"]
        parts.add(part(0, "a", "b/c", "c", value=7.0))
        assert before.tolist() != next(parts.each()).maps["a/abc"].tolist() == [[7.0] * 3] * 2

    @pytest.mark.parametrize("suffix", [".json", ".arrow", ".safetensors", ".pairs"])
    @pytest.mark.parametrize("damage", ["cut", "changed", "gone", "empty"])
    def test_damage_is_named(self, parts: FolderParts, tmp_path: Path, suffix: str, damage: str) -> None:
        file = tmp_path / f"parts/part-000000004{suffix}"
        data = file.read_bytes()
        middle = len(data) // 2
        if damage == "gone":
            file.unlink()
        else:
            changed = bytes([data[middle] ^ 1])
            file.write_bytes(
                {"cut": data[:middle], "changed": data[:middle] + changed + data[middle + 1 :], "empty": b""}[damage]
            )
        if (suffix, damage) == (".json", "gone"):
            assert len(list(parts.each())) == 1
        elif (suffix, damage) == (".json", "changed"):
            return  # may be another number of seconds
        else:
            with pytest.raises(
                WronglungError, match=r"part-000000004.json: the part is damaged .* remove part-.*4\.\*"
            ):
                list(parts.each())

    @pytest.mark.parametrize(
        "text",
        ["[]", "{}", '{"images": 3, "run": "this run"}', "[" * 10_000, "\xff", '{"images": ["a"], "run": "this run"}',
         '{"images": ["a"], "run": "this run", "sha256": {"/../../../etc/passwd": ""}}',
         '{"images": ["a"], "run": "this run", "sha256": 3}'],
    )  # fmt: skip
    def test_what_is_no_part_is_named(self, parts: FolderParts, tmp_path: Path, text: str) -> None:
        (tmp_path / "parts/part-000000004.json").write_text(text, encoding="latin-1")
        with pytest.raises(WronglungError, match=r"part-000000004.json: the part is damaged"):
            list(parts.each())

    def test_a_part_of_another_run_is_named(self, parts: FolderParts, tmp_path: Path) -> None:
        with pytest.raises(
            WronglungError, match=r"part-000000000.json: is a part of another run; remove part-000000000\.\*"
        ):
            FolderParts(tmp_path, "another run").done()


class TestFolder:
    def test_a_run_that_stops_keeps_its_parts_and_says_how_far_it_is(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            stop(tmp_path, KeyboardInterrupt(), part(0, "a", "b"))
        assert describe_progress(tmp_path) == "interrupted, at least 2 of 7 images done"
        with pytest.raises(WronglungError, match="holds an unfinished run .interrupted, at least 2 of 7 images done"):
            enter(tmp_path)
        with claimed(tmp_path, resume=True, overwrite=False) as claim:
            assert claim.begin(IDENTITY, 7).done() == {"a", "b"}
            claim.clear()
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_before_anything_was_finished_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(WronglungError):
            stop(tmp_path, WronglungError("no"))
        assert list(tmp_path.iterdir()) == []

    def test_another_run_does_not_go_on_with_it_and_changes_nothing(self, tmp_path: Path) -> None:
        killed(tmp_path)
        before = everything(tmp_path)
        for other, message in (
            ({**IDENTITY, "seed": 1}, r"another seed \(0 then, 1 now\); --resume with the same, or --overwrite it"),
            (
                {**IDENTITY, "model": {"name": "a", "settings": {"layer": 2}}},
                r"another model.settings.layer \(1 then, 2 now\);",
            ),
            ({**IDENTITY, "suite": {"tasks": ["x", "y"]}, "seed": None}, r"suite.tasks \(\[\"original\"\] then"),
        ):
            with pytest.raises(WronglungError, match=message), claimed(tmp_path, resume=True, overwrite=False) as claim:
                claim.begin(other, 5)
            assert everything(tmp_path) == before
        # Nor does an interrupt before anybody knows which run it is.
        with pytest.raises(KeyboardInterrupt), claimed(tmp_path, resume=True, overwrite=False):
            raise KeyboardInterrupt
        assert everything(tmp_path) == before

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\x00"])
    def test_damaged_notes(self, tmp_path: Path, text: str) -> None:
        killed(tmp_path)
        (tmp_path / "progress.json").write_text(text)
        with pytest.raises(WronglungError, match="its progress is not known"):
            enter(tmp_path)
        with claimed(tmp_path, resume=True, overwrite=False) as claim:
            assert claim.begin(IDENTITY, 7).done() == {"a", "b"}
        (tmp_path / "parts/identity.json").write_text(text)
        with (
            pytest.raises(WronglungError, match=r"identity.json: is damaged, .* --overwrite the run"),
            claimed(tmp_path, resume=True, overwrite=False) as claim,
        ):
            claim.begin(IDENTITY, 7)
        with claimed(tmp_path, resume=False, overwrite=True) as claim:
            assert claim.begin(IDENTITY, 7).done() == set()

    def test_what_was_being_written_when_it_was_killed_goes(self, tmp_path: Path) -> None:
        killed(tmp_path)
        for name in (".results.json.x", ".maps.safetensors.y1", ".progress.json._", "parts/.part-000000002.arrow.z"):
            (tmp_path / name).write_text("")
        (tmp_path / ".mine").write_text("")
        with claimed(tmp_path, resume=True, overwrite=False) as claim:
            claim.begin(IDENTITY, 7)
            claim.clear()
        assert [one.name for one in tmp_path.iterdir()] == [".mine"]

    def test_a_run_that_was_killed_while_it_replaced_another_is_the_one_to_go_on_with(self, tmp_path: Path) -> None:
        (tmp_path / RESULTS).write_text("the earlier run")
        killed(tmp_path, overwrite=True)
        with pytest.raises(WronglungError, match="holds an unfinished run"):
            enter(tmp_path)
        with claimed(tmp_path, resume=True, overwrite=False) as claim:
            assert (claim.complete, claim.unfinished) == (False, True)
        assert (tmp_path / RESULTS).exists()

    def test_a_run_that_was_killed_while_it_cleaned_up_is_complete(self, tmp_path: Path) -> None:
        killed(tmp_path)
        (tmp_path / RESULTS).write_text("")
        (tmp_path / "parts/identity.json").unlink()
        with claimed(tmp_path, resume=True, overwrite=False) as claim:
            assert claim.complete
        assert [one.name for one in tmp_path.iterdir()] == [RESULTS]

    def test_what_is_in_the_way_of_the_parts_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        for place in ("elsewhere", "nowhere"):
            (tmp_path / "parts").symlink_to(tmp_path / place)
            with pytest.raises(WronglungError, match="parts: a run keeps its parts in a folder of this name; move"):
                enter(tmp_path)
            (tmp_path / "parts").unlink()
        (tmp_path / "parts").write_text("notes")
        with pytest.raises(WronglungError, match="parts: a run keeps its parts in a folder of this name; move"):
            enter(tmp_path, overwrite=True)
        assert (tmp_path / "parts").read_text() == "notes"

    def test_a_folder_is_one_runs_at_a_time(self, tmp_path: Path) -> None:
        with claimed(tmp_path, resume=False, overwrite=False) as claim:
            claim.begin(IDENTITY, 7)
            before = everything(tmp_path)
            for flags in ({}, {"resume": True}, {"overwrite": True}):
                with pytest.raises(
                    WronglungError, match=r"another run is writing to this folder \(process \d+ on .*\); wait"
                ):
                    enter(tmp_path, **flags)
            assert everything(tmp_path) == before
            claim.clear()
        assert list(tmp_path.iterdir()) == []

    def test_a_lock_that_a_killed_process_left_holds_nobody_up(self, tmp_path: Path) -> None:
        (tmp_path / ".lock").write_text("")
        with (
            locked(tmp_path, lambda: "in use"),
            pytest.raises(WronglungError, match="in use"),
            locked(tmp_path, lambda: "in use"),
        ):
            pass
        assert list(tmp_path.iterdir()) == []


def enter(folder: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    with claimed(folder, resume=resume, overwrite=overwrite):
        pass


def stop(folder: Path, error: BaseException, *finished: Part) -> None:
    """A run of seven images that stops with an error."""
    with claimed(folder, resume=False, overwrite=False) as claim:
        parts = claim.begin(IDENTITY, 7)
        for one in finished:
            parts.add(one)
            claim.advance(len(one.images))
        raise error


def killed(folder: Path, *, overwrite: bool = False) -> None:
    """Leave what a run leaves that is killed after two of seven images."""
    with claimed(folder, resume=False, overwrite=overwrite) as claim:
        claim.begin(IDENTITY, 7).add(part(0, "a", "b"))
        claim.advance(2)
    assert json.loads((folder / "progress.json").read_text())["status"] == "running"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}
