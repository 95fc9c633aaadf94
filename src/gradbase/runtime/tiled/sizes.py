"""How much of everything a network in tiles needs, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from gradbase.errors import ResourceError
from gradbase.ir.learning import Model
from gradbase.ir.tensor import Param
from gradbase.resources.sizes import readable
from gradbase.resources.tiled_plan import PINNED, Planner
from gradbase.runtime.context import RunContext
from gradbase.store.blobs import Blobs
from gradbase.store.tiles.file import TileFile

WEIGHT_PAGES = 2
"""Pages of weights that a thread needs at once; a third one is of a result on disk."""


class TiledSizes:
    """The plan of a prediction, and the files that its weights are in.

    Weights that lie in chunks are cut into tiles first, once.

    Parameters
    ----------
    model : Model
    methods : sequence of str
        Which outputs.
    row_bytes : int
        Of the rows that pass by.
    batch_rows : int
        The optimiser's choice for the rows of a batch, 0: as many as memory allows.
    context : RunContext
    page_bytes : int, optional
        Default: as the memory allows.

    Raises
    ------
    ResourceError
        The memory is too small for one row, or for the tiles of the files.
    """

    threads = 0

    def __init__(
        self, model: Model, methods: Sequence[str], row_bytes: int, batch_rows: int,
        context: RunContext, *, page_bytes: int = 0,
    ) -> None:  # fmt: skip
        self._roots, self._row_bytes = [model.output(m).x for m in methods], row_bytes
        self._memory, self._page_bytes = context.memory_bytes, page_bytes
        self._plan(model, max(context.broker.threads, 1), batch_rows)
        self.files: dict[Param, TileFile] = {}
        if isinstance(context.blobs, Blobs):
            for param in self.plan.order:
                if isinstance(param, Param) and param in self.plan.tiled:
                    self.files[param] = context.blobs.tiles(param, self.plan.page_bytes)
        largest = max((f.page_bytes for f in self.files.values()), default=0)
        if self._with_pages(largest) > self._memory and self.plan.threads > 1:
            self._plan(model, 1, batch_rows)
        self.size_bytes = self._with_pages(largest)
        self.batch_rows = self.tile_rows = self.plan.rows
        if self.size_bytes > self._memory:
            raise ResourceError(
                f"model `{model.name}` was stored in tiles of {readable(largest)}: "
                f"{readable(self.size_bytes)} are needed, statements may use "
                f"{readable(self._memory)}",
                hint="SET gradbase.memory_limit to a larger size (the engine's buffer pool takes "
                "half of it)",
            )

    def _plan(self, model: Model, threads: int, batch_rows: int) -> None:
        self.planner = Planner(
            model,
            self._row_bytes,
            self._memory,
            threads,
            roots=self._roots,
            page_bytes=self._page_bytes,
        )
        self.plan = self.planner.plan(batch_rows)

    def _with_pages(self, largest: int) -> int:
        """Bytes needed where pages of weights are of up to `largest` bytes."""
        own = self.plan.page_bytes
        self.pinned_bytes = self.plan.threads * (WEIGHT_PAGES * max(largest, own) + own)
        return self.plan.size_bytes + self.pinned_bytes - self.plan.threads * PINNED * own
