"""``python -m gradbase``: the command line."""

from __future__ import annotations

from gradbase.cli import main

if __name__ == "__main__":
    main()
