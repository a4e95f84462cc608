"""Batch norm in evaluation mode costs nothing: it is folded into the convolution before it, in training too."""

from typing import Any

import torch
from timm.layers import Conv2dSame, conv2d_same
from torch import nn
from torch.nn import functional as F

from mpox.errors import MpoxError


def fold_batch_norm(model: nn.Module, example: torch.Tensor) -> int:
    """Let every convolution that feeds a batch norm, and nothing else, do that batch norm's work where it is in evaluation mode.

    With fixed statistics a batch norm is a scale and a shift a channel, which the convolution's weights can take up (Jacob et al.
    2018, section 3.2). The weights stay what they are: the product is formed anew in every pass, so that gradients reach the
    convolution and the batch norm alike, and the state dict does not change. A batch norm in training mode works as before.

    Parameters
    ----------
    model : Module
        Changed in place.
    example : Tensor
        An input of the model, in its shape and on its device.

    Returns
    -------
    int
        Number of batch norms folded.

    Raises
    ------
    MpoxError
        If the model's output for the example changes: something else reads what a convolution makes.
    """
    produced: dict[int, nn.Module] = {}
    kept: list[torch.Tensor] = []  # ids are unique only as long as the tensors live
    pairs: list[tuple[nn.Module, nn.Module]] = []
    taken: dict[int, int] = {}

    def watch(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        for value in inputs:
            taken[id(value)] = taken.get(id(value), 0) + 1
        if type(module) in (nn.Conv2d, Conv2dSame) and module.padding_mode == "zeros":
            produced[id(output)] = module
        elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in produced:
            pairs.append((produced[id(inputs[0])], module))
            sources[id(module)] = id(inputs[0])
        kept.extend([*inputs, output])

    sources: dict[int, int] = {}
    leaves = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    handles = [module.register_forward_hook(watch) for module in leaves]
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            before = model.eval()(example)
    finally:
        for handle in handles:
            handle.remove()
    pairs = [(conv, norm) for conv, norm in pairs if taken[sources[id(norm)]] == 1]
    for conv, norm in pairs:
        _fold(conv, norm)
    with torch.no_grad():
        same = torch.allclose(model(example), before, rtol=1e-2, atol=1e-3 * float(before.abs().max()))
    for module, training in modes.items():
        module.training = training
    if not same:
        raise MpoxError(f"{type(model).__name__} reads a convolution behind its batch norm's back: it cannot be folded.")
    return len(pairs)


def _fold(conv: Any, norm: Any) -> None:
    """Give a convolution and the batch norm behind it (timm's may drop and activate, too) new ways forward."""
    plain_conv, plain_norm = conv.forward, norm.forward

    def convolve(x: torch.Tensor) -> torch.Tensor:
        if norm.training:
            return plain_conv(x)
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = norm.bias - norm.running_mean * scale
        if conv.bias is not None:
            bias = bias + conv.bias * scale
        same = conv2d_same if isinstance(conv, Conv2dSame) else F.conv2d
        weight = conv.weight * scale[:, None, None, None]
        return same(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def normalise(x: torch.Tensor) -> torch.Tensor:
        if norm.training:
            return plain_norm(x)
        return norm.act(norm.drop(x)) if hasattr(norm, "act") else x

    conv.forward, norm.forward = convolve, normalise
