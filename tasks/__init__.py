"""What is asked: tasks and suites as YAML, and the perturbations, subsets and sentence sources that they name.

A built-in function is one line in its catalogue here; a built-in task or suite is one file in ``definitions`` or
``suites``. Modules in this folder know the instance types and nothing else of the benchmark.
"""

from __future__ import annotations

from ..benchmark.registry import Entry

PERTURBATIONS = {
    "swap_left_right": Entry("wronglung.tasks.perturbations:swap_left_right", 'exchange the words "left" and "right"'),
    "shuffle_boxes": Entry(
        "wronglung.tasks.perturbations:shuffle_boxes", "permute the box sets of a report's sentences"
    ),
    "random_sentences": Entry("wronglung.tasks.perturbations:random_sentences", "a sentence of another patient"),
    "random_boxes": Entry("wronglung.tasks.perturbations:random_boxes", "the boxes of another patient's sentence"),
    "swap_conditions": Entry(
        "wronglung.tasks.perturbations:swap_conditions", "another condition seen at the same regions"
    ),
}

SENTENCES = {
    "original": Entry("wronglung.tasks.sentences:original", "the report's own sentence"),
    "synthetic": Entry("wronglung.tasks.sentences:synthetic", "a sentence made from the findings"),
}

SUBSETS = {
    "all": Entry("wronglung.tasks.subsets:everything", "every instance"),
    "abnormal": Entry("wronglung.tasks.subsets:abnormal", "an abnormal finding is affirmed"),
    "one_lung": Entry("wronglung.tasks.subsets:one_lung", "one lung is annotated, the other is not"),
    "mdrb": Entry("wronglung.tasks.subsets:most_diverse_report_boxes", "most diverse report boxes"),
}
