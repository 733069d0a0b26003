"""Initial weights, as UniCAS and DTFree draw them."""

from __future__ import annotations

from torch import nn

#: Of task and class tokens; of linear layers: github.com/peter-fei/UniCAS,
#: slide-level/models/multitask_agg.py, and github.com/thebestannie/Detection-free-MICCAI2023,
#: vit_model_res18.py, alike.
TOKEN_STD, LINEAR_STD = 0.02, 0.01


def initialise(module: nn.Module) -> None:
    """Draw the weights of one layer in place, for `nn.Module.apply`; biases become 0.

    Linear: truncated normal; convolution: Kaiming normal by fan-out. `nn.LayerNorm` is born as it
    should be.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=LINEAR_STD)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
