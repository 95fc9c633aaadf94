"""Bytes by name in an object store, through fsspec.

Only stores in which an object can be put if it is absent, in one step: of two sessions that change
a catalog at the same time one must be told.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from typing import Any

from gradbase.errors import StoreError, UnsupportedError

SCHEMES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "memory": "fsspec"}
"""Scheme of a URL -> package that knows it."""
_in_memory = threading.Lock()
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def scheme_of(store: object) -> str:
    """The scheme of a store's URL; '' for a path and for ``file://``."""
    found = _URL.match(str(store))
    return "" if found is None or found[1].lower() == "file" else found[1].lower()


class Objects:
    """Objects below a URL, each put as a whole.

    Parameters
    ----------
    url : str
        ``s3://bucket/models``, ``gs://bucket/models``; ``memory://models`` ends with the process.

    Raises
    ------
    UnsupportedError
        Stores of this kind are not offered, or the package for them is not installed.
    StoreError
        The store cannot be reached (from each method too).
    """

    def __init__(self, url: str) -> None:
        self.url, self.scheme = url.rstrip("/"), scheme_of(url)
        if self.scheme not in SCHEMES:
            raise UnsupportedError(
                f"a store at `{self.scheme}://` is not offered: there are a folder (a path, "
                "file://), s3:// and gs://",
                hint="mount it (NFS, FUSE), and give the folder that executors see too",
            )
        import fsspec

        try:
            with self._reported():
                self._fs, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            package = SCHEMES[self.scheme]
            raise UnsupportedError(
                f"a store at `{self.scheme}://` needs the package {package}: {error}",
                hint=f"pip install {package}, here and where executors run",
            ) from error

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the objects too."""
        return self.scheme != "memory"

    def read(self, name: str) -> bytes:
        """An object; FileNotFoundError where there is none."""
        with self._reported():
            return self._fs.cat_file(self._path(name))

    def size(self, name: str) -> int | None:
        """Bytes of an object, None where there is none."""
        with self._reported(), contextlib.suppress(FileNotFoundError):
            return int(self._fs.info(self._path(name))["size"])
        return None

    def age_s(self, name: str) -> float:
        """Seconds since an object was put."""
        with self._reported():
            return time.time() - self._fs.modified(self._path(name)).timestamp()

    def put(self, name: str, data: bytes) -> None:
        """Put an object, whatever was there."""
        with self._reported():
            self._fs.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Put an object if there is none of its name; whether it was put."""
        with self._reported(), contextlib.suppress(FileExistsError), self._turn():
            self._fs.pipe_file(self._path(name), data, mode="create")
            return True
        return False

    def names(self, folder: str) -> dict[str, int]:
        """Objects directly below a name with a slash, and their bytes."""
        found: list[dict[str, Any]] = []
        with self._reported(), contextlib.suppress(FileNotFoundError):
            found = self._fs.ls(self._path(folder), detail=True)
        files = (f for f in found if f["type"] == "file")
        return {str(f["name"]).rsplit("/", 1)[-1]: int(f["size"]) for f in files}

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are gone already are no error."""
        for name in names:
            with self._reported(), contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name))

    def _turn(self) -> AbstractContextManager[Any]:
        """Memory looks whether there is one, and then puts it."""
        return contextlib.nullcontext() if self.is_shared else _in_memory

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _reported(self) -> Generator[None]:
        """What a driver raises, whatever its kind, as ours."""
        try:
            yield
        except (FileNotFoundError, FileExistsError, ImportError):
            raise
        except Exception as error:
            raise StoreError(
                f"the store at {self.url} cannot be reached: {type(error).__name__}: {error}",
                hint="check the URL, the network and the credentials of this process",
            ) from error
