"""The surface: `connect` gives a `Session`; everything else hangs off it."""

from __future__ import annotations

from gradbase.session.session import Session, connect

__all__ = ["Session", "connect"]
