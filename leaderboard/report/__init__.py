"""The report: runs as one folder of static pages that opens from disk."""

from .build import DEFAULT_TITLE, INDEX, write_report

__all__ = ["DEFAULT_TITLE", "INDEX", "write_report"]
