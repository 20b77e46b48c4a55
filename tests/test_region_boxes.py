"""Region boxes in little memory are the same boxes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wronglung.benchmark.datasets.region_boxes import RegionBoxes
from wronglung.benchmark.instances import Box

NUMBERS = st.floats(allow_nan=False)
BOXES = st.lists(st.builds(Box, st.text(max_size=3), NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=4)


@given(st.dictionaries(st.text(max_size=3), BOXES, max_size=4))
def test_what_was_added_is_there(boxes: dict[str, list[Box]]) -> None:
    regions = RegionBoxes()
    for image_id, own in boxes.items():
        regions.add(image_id, [box.name for box in own], [(box.x1, box.y1, box.x2, box.y2) for box in own])
    assert dict(regions) == {image_id: tuple(own) for image_id, own in boxes.items()}
    assert regions.get("none of them") is None
