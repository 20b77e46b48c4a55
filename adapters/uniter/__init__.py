"""UNITER, over regions that a detector found beforehand."""
