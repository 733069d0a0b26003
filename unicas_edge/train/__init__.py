"""What training and comparison need: torch modules of the aggregator and of its baselines.

Nothing of the runtime imports this package, and it is the only one that imports torch.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ModuleNotFoundError(
        "unicas_edge.train needs PyTorch, which screening does not: "
        "pip install 'unicas-edge[train]'",
        name="torch",
    )
