"""``python -m wronglung`` is ``wronglung``."""

from .benchmark.cli import main

if __name__ == "__main__":
    main()
