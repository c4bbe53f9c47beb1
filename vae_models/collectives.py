"""Sums across workers, with their gradients. The only user of `torch.distributed` in this package.

Convention: **every worker computes the same global loss L** from sums over all workers. The backward of a sum over
workers is again a sum over workers, so worker r's gradient is W x dL/d(parameters through worker r's data), W the
number of workers; DistributedDataParallel averages these, which leaves exactly dL/d(parameters). That holds for losses
that couple the data of a batch too (batch statistics, log of a batch mean), where averaging the workers' own losses is
wrong. A gradient that is itself part of a loss (a gradient penalty) is W times its share: divide it by W. With one
worker every function here is the identity or a plain mean and touches no process group.

Every worker must call these in the same order, and none of them inside evaluation, where workers see different numbers
of batches.
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]


class PeerError(RuntimeError):
    """The first worker failed at something that it does for all; its own error says what."""


class MeetingPoint:
    """Where the workers of a process group meet: a store in the first one's process, on a port that was free."""

    def __init__(self, host: str, timeout_seconds: float) -> None:
        """Listen. host: this machine's address, as the other workers reach it."""
        self._timeout = timedelta(seconds=timeout_seconds)
        self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=self._timeout)
        self.address: tuple[str, int] = (host, self._store.port)


def join(
    rank: int, world_size: int, meeting: MeetingPoint | tuple[str, int], *, backend: str, timeout_seconds: float
) -> None:
    """Make this process worker `rank` of a process group, once all of its `world_size` workers have come.

    meeting: the first worker's own meeting point, or its address. timeout_seconds: of joining and of every collective.
    """
    timeout = timedelta(seconds=timeout_seconds)
    if isinstance(meeting, MeetingPoint):
        store = meeting._store
    else:
        store = TCPStore(*meeting, is_master=False, wait_for_workers=False, timeout=timeout)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    return dist.get_world_size() if is_distributed() else 1


class _AllReduceSum(torch.autograd.Function):
    """y = sum over workers of x, [*shape]; backward: the sum over workers of dL/dy. Differentiable twice too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return all_reduce_sum(grads[0])


class _AllGather(torch.autograd.Function):
    """y[r] = worker r's x, [workers, *shape]; backward: own row of the sum over workers of dL/dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = x.new_empty((world_size(), *x.shape))
        dist.all_gather(list(rows.unbind(0)), x.detach().contiguous())
        return rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return all_reduce_sum(grads[0])[rank()]


def all_reduce_sum(x: Tensor) -> Tensor:
    """Return the sum over workers, same shape, the same bits on every worker; x itself when there is one worker."""
    if world_size() == 1:
        return x
    result: Tensor = _AllReduceSum.apply(x)  # type: ignore[no-untyped-call]
    return result


def all_gather(x: Tensor) -> Tensor:
    """Return every worker's x, [workers, *shape]; it must have one shape on all of them. Differentiable."""
    if world_size() == 1:
        return x.unsqueeze(0)
    result: Tensor = _AllGather.apply(x)  # type: ignore[no-untyped-call]
    return result


def gather_rows(x: Tensor) -> tuple[Tensor, int]:
    """Return all workers' rows in the global batch's order, [global, *rest], and the index of this worker's first one.

    Local batches may differ in size. Differentiable: a loss that every worker computes from the same rows, and adds to
    its global loss, has the gradient of one worker that has them all. It waits for the sizes.
    """
    if world_size() == 1:
        return x, 0
    counts = all_gather(torch.tensor(x.shape[0], device=x.device)).tolist()
    largest = max(counts)
    padding = x.new_zeros((largest - x.shape[0], *x.shape[1:]))
    blocks = all_gather(torch.cat([x, padding]))
    rows = torch.cat([block[:count] for block, count in zip(blocks.unbind(0), counts, strict=True)])
    return rows, sum(counts[: rank()])


def global_mean(per_datum: Tensor) -> Tensor:
    """Return the mean over the global batch: sum over workers and data / number of data. [local, *rest] -> [*rest].

    Differentiable; local batches may differ in size, and one may be empty. Stack several quantities along a trailing
    axis to reduce them in one message.
    """
    if world_size() == 1:
        return per_datum.mean(0)
    total = per_datum.sum(0)
    count = total.new_full((1,), per_datum.shape[0])  # exact in float32 up to 2^24 data
    reduced = all_reduce_sum(torch.cat([total.reshape(-1), count]))
    return (reduced[:-1] / reduced[-1].detach()).reshape(total.shape)


def broadcast_integers(values: Sequence[int], device: torch.device) -> list[int]:
    """Return the first worker's integers on every worker;
    `device`: where the backend wants its messages (nccl: its GPU).
    """
    if world_size() == 1:
        return list(values)
    message = torch.tensor(list(values), dtype=torch.int64, device=device)
    dist.broadcast(message, src=0)
    return [int(value) for value in message.tolist()]


def broadcast_text(text: str, device: torch.device) -> str:
    """Return rank 0's text on every rank."""
    data = list(text.encode())
    (length,) = broadcast_integers([len(data)], device)
    if length == 0:
        return ""
    padded = (data + [0] * length)[:length]  # other ranks only bring the room
    return bytes(broadcast_integers(padded, device)).decode()


def broadcast_tensors(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return rank 0's tensors by name, on the CPU, on every rank; what the others give is not read."""
    if world_size() == 1:
        return {name: tensor.cpu() for name, tensor in tensors.items()}
    said = [[name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in tensors.items()]
    received = {}
    for name, dtype, shape in json.loads(broadcast_text(json.dumps(said), device)):
        own = tensors[name] if rank() == 0 else torch.empty(shape, dtype=getattr(torch, dtype))
        message = own.detach().to(device).contiguous()
        dist.broadcast(message, src=0)
        received[name] = message.cpu()
    return received


def on_first_rank(action: Callable[[], None], device: torch.device) -> None:
    """Run `action` on rank 0 while the others wait; when it raises there, the others raise `PeerError`.

    Without this a worker whose disk is full would leave its peers waiting in their next sum until the timeout.
    """
    failure: BaseException | None = None
    if rank() == 0:
        try:
            action()
        except Exception as error:
            failure = error
    (failed,) = broadcast_integers([int(failure is not None)], device)
    if failure is not None:
        raise failure
    if failed:
        raise PeerError("worker 0 failed while it acted for all workers: its own error says at what")


def unsynchronized(module: nn.Module) -> AbstractContextManager[Any]:
    """Leave the gradients of `data_parallel`'s module as each worker's own inside of the block; the first backward pass
    after it averages all that have been added up.
    """
    return module.no_sync() if isinstance(module, nn.parallel.DistributedDataParallel) else nullcontext()


class EagerDataParallel(nn.parallel.DistributedDataParallel):
    """torch's DistributedDataParallel, called past the decorator that keeps torch.compile away from it, which imports
    the compiler: a second and a half of every worker, and nothing here is compiled. Made under `_without_compiler`."""

    _inside_ddp_forward = contextmanager(inspect.unwrap(nn.parallel.DistributedDataParallel._inside_ddp_forward))


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Answer DistributedDataParallel's one question to a compiler that is not there, how it would treat the module: as
    it does when nobody has asked for anything else."""
    if "torch._dynamo" in sys.modules:
        yield
        return
    answer: Any = SimpleNamespace(utils=SimpleNamespace(get_optimize_ddp_mode=lambda: "ddp_optimizer"))
    torch._dynamo = answer
    try:
        yield
    finally:
        if torch._dynamo is answer:  # not where something has imported the real one meanwhile
            del torch._dynamo


def data_parallel(module: nn.Module) -> nn.Module:
    """Return `module` with its gradients averaged over workers (DistributedDataParallel); itself with one worker.

    Buffers are not broadcast: batch statistics are the global batch's, hence the same on all workers by construction.
    """
    if world_size() == 1:
        return module
    with _without_compiler(), warnings.catch_warnings():
        # torch 2.13 renames the argument to one that the older releases we run with do not know
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return EagerDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)
