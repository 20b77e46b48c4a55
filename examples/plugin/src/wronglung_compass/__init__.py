"""A wronglung plug-in: where its task and its suite are."""

from pathlib import Path

TASK = Path(__file__).with_name("swap_upper_lower.yaml")
SUITE = Path(__file__).with_name("compass.yaml")
