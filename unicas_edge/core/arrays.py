"""The kinds of array that pass between rooms, and the one softmax."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Pixels: RGB [height, width, 3] unless said otherwise.
UInt8Image = NDArray[np.uint8]
Float32 = NDArray[np.float32]
