"""Batch normalization whose statistics are those of the global batch, however many workers share it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vae_models.collectives import all_gather, world_size
from vae_models.precision import REDUCED


def _merged_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, biased variance and number of values per channel over all workers' x, [channels], [channels], [].

    The workers' means and sums of squared deviations are merged as in Chan, Golub and LeVeque (1979): no difference of
    large sums, so float32 keeps its digits. Local batches may differ in size, and may be empty: such a one weighs
    nothing. One message; differentiable.
    """
    dims = [0, *range(2, x.ndim)]
    values = x.numel() // x.shape[1]
    if values:
        variance, mean = torch.var_mean(x, dims, correction=0)
    else:
        variance = mean = x.sum(dims)  # zeros; moments of nothing would be NaN, and NaN times no weight is NaN
    count = mean.new_full((1,), values)
    rows = all_gather(torch.cat([mean, variance, count]))  # [workers, 2 channels + 1]
    means, variances = rows[:, :-1].chunk(2, dim=1)
    counts = rows[:, -1:].detach()
    total = counts.sum()
    weights = counts / total.clamp(min=1)
    global_mean = (weights * means).sum(0)
    global_variance = (weights * (variances + (means - global_mean).square())).sum(0)
    return global_mean, global_variance, total


class _GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, per channel (Ioffe and Szegedy 2015, algorithm 1).

    In training, mean and variance are the global batch's and the gradient flows through them on all workers; running
    statistics follow torch's rule (variance unbiased) and are the same on all workers. In evaluation, and with one
    worker, this *is* torch's layer: same kernels, same keys in `state_dict`. x: [batch, channels, *rest].
    """

    # whether it is called under `torch.func.vmap`, which has no norm of bfloat16 with float32 weights, and which in
    # evaluation moves the mapped axis to the channels of every norm's input and back
    mapped = False

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return self._affine(input) if self.mapped else super().forward(input)
        if self.mapped and input.dtype in REDUCED:
            return super().forward(input.float()).to(input.dtype)
        if world_size() == 1:
            if not len(input):  # frames of videos that have none to be predicted: nothing to take statistics of
                return self._of_nothing(input)
            if input.numel() == input.shape[1]:
                raise ValueError(
                    "batch norm needs two values per channel to have a variance, and a batch of one datum gives it one "
                    f"here ({list(input.shape)}): set batch_size to 2 or more"
                )
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        mean, variance, count = _merged_moments(x)
        self._track(mean.detach(), variance.detach(), count)
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shape = [1, -1] + [1] * (x.ndim - 2)
        y = (x - mean.view(shape)) * scale.view(shape)
        if self.bias is not None:
            y = y + self.bias.view(shape)
        return y.to(input.dtype)

    def _affine(self, x: Tensor) -> Tensor:
        """Return what torch's layer returns in evaluation, to rounding: one multiplication and one addition."""
        if self.running_mean is None or self.running_var is None:
            return super().forward(x)
        scale = torch.rsqrt(self.running_var + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -self.running_mean * scale
        shift = shift if self.bias is None else shift + self.bias
        shape = [-1] + [1] * (x.ndim - 2)
        return torch.addcmul(shift.to(x.dtype).view(shape), x, scale.to(x.dtype).view(shape))

    def _of_nothing(self, input: Tensor) -> Tensor:
        """Return what has no rows as it is, with weight and bias in its graph; running statistics stay."""
        if self.weight is None or self.bias is None:
            return input
        shape = [1, -1] + [1] * (input.ndim - 2)
        return input * self.weight.view(shape) + self.bias.view(shape)

    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1))
        nothing = count == 0  # on any worker: the running statistics stay
        mean, unbiased = torch.where(nothing, self.running_mean, mean), torch.where(nothing, self.running_var, unbiased)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)


def map_norms(part: nn.Module, mapped: bool) -> None:
    """Tell the batch norms within a part whether they are called under `torch.func.vmap`."""
    for module in part.modules():
        if isinstance(module, _GlobalBatchNorm):
            module.mapped = mapped


@contextmanager
def untracked(part: nn.Module) -> Iterator[None]:
    """Let the batch norms within a part move copies of their running statistics inside of the block."""
    norms = [module for module in part.modules() if isinstance(module, _GlobalBatchNorm)]
    before = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        for name, buffer in norm._buffers.items():
            norm._buffers[name] = None if buffer is None else buffer.clone()
    try:
        yield
    finally:
        for norm, buffers in zip(norms, before, strict=True):
            norm._buffers.update(buffers)


class BatchNorm1d(_GlobalBatchNorm):
    """Over [batch, channels] or [batch, channels, length]. Arguments as `torch.nn.BatchNorm1d`."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 3):
            raise ValueError(
                f"BatchNorm1d takes [batch, channels] or [batch, channels, length], got {list(input.shape)}"
            )


class BatchNorm2d(_GlobalBatchNorm):
    """Over [batch, channels, height, width]. Arguments as `torch.nn.BatchNorm2d`."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim != 4:
            raise ValueError(f"BatchNorm2d takes [batch, channels, height, width], got {list(input.shape)}")
