"""``python -m gradbase.testing.reference docs/reference``."""

from __future__ import annotations

import sys
from pathlib import Path

from gradbase.testing.reference import write

if __name__ == "__main__":
    write(Path(sys.argv[1]))
