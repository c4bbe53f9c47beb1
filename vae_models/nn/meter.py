"""How much memory tensors take, counted as they are made."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes of tensors made within the block that were alive at once: `peak`.

    They are counted, not asked of a device: the same number on every machine, whatever else runs there.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return that torch need not keep torch.compile away: it imports the compiler to do so."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._alive: dict[int, weakref.ref[UntypedStorage]] = {}  # by the storage's address

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count what it made. A view, or what was there before, is nothing new."""
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in given and storage._cdata not in self._alive:
                    self._count(storage)
        self.peak = max(self.peak, self._now)
        return result

    def _count(self, storage: UntypedStorage) -> None:
        """Count a storage from now until it is freed, when torch lets go of its Python object, too."""
        address, size = storage._cdata, storage.nbytes()

        def freed(reference: weakref.ref[UntypedStorage]) -> None:
            if self._alive.get(address) is reference:
                del self._alive[address]
                self._now -= size

        self._alive[address] = weakref.ref(storage, freed)
        self._now += size
