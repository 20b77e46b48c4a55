"""The report: runs as one folder of static pages that opens from disk."""
