"""The surface: `connect` gives a `Session`; everything else hangs off it."""

from __future__ import annotations

from gradbase.session.results import Result
from gradbase.session.session import Session, connect

__all__ = ["Result", "Session", "connect"]
