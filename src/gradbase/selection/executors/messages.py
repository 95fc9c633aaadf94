"""What a search and its workers say to each other: JSON and tensors, nothing that runs code."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from torch import Tensor

from gradbase import errors
from gradbase.errors import GradbaseError, InternalError, TrainingError

VERSION = 1
"""Of these messages."""
Message = dict[str, Any]
Tensors = Mapping[str, Tensor]
_FRAMES = 20


def pack(message: Mapping[str, Any], tensors: Tensors | None = None) -> bytes:
    """A message and its tensors as bytes.

    Examples
    --------
    >>> unpack(pack({"do": "leave"}))
    ({'do': 'leave'}, {})
    """
    head = json.dumps(message).encode()
    whole = {name: tensor.contiguous() for name, tensor in (tensors or {}).items()}
    return len(head).to_bytes(8, "little") + head + safetensors.torch.save(whole)


def unpack(data: bytes) -> tuple[Message, dict[str, Tensor]]:
    """Inverse of `pack`; InternalError for other bytes."""
    try:
        end = 8 + int.from_bytes(data[:8], "little")
        return json.loads(data[8:end]), safetensors.torch.load(data[end:])
    except Exception as error:
        raise InternalError(
            f"a message between a search and a worker is damaged: {error}"
        ) from error


def told(error: Exception) -> Message:
    """An error as part of a message."""
    known = isinstance(error, GradbaseError)
    return {
        "type": type(error).__name__,
        "text": error.message if known else f"{type(error).__name__}: {error}",
        "at": error.at if known else None,
        "hint": error.hint if known else None,
        "traceback": "".join(traceback.format_exception(error, limit=-_FRAMES)),
    }


def heard(plain: Message) -> GradbaseError:
    """The error again, with the worker's traceback as a note."""
    kind = getattr(errors, plain["type"], None)
    if not (isinstance(kind, type) and issubclass(kind, GradbaseError)):
        kind = TrainingError
    found = kind(plain["text"], at=plain["at"], hint=plain["hint"])
    found.add_note(f"in the worker:\n{plain['traceback']}")
    return found


def prefixed(states: Mapping[int, Tensors]) -> dict[str, Tensor]:
    """States of several places as tensors of one message."""
    return {f"{place}/{name}": t for place, state in states.items() for name, t in state.items()}


def by_place(tensors: Tensors) -> dict[int, dict[str, Tensor]]:
    """Inverse of `prefixed`."""
    found: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        place, _, name = key.partition("/")
        found.setdefault(int(place), {})[name] = tensor
    return found
