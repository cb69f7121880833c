from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def unit_length(rows: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """A row without direction (no word in the text) becomes the first axis, so that every row can be compared."""
    import numpy as np

    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows[lengths[:, 0] == 0, 0] = 1.0
    return rows / np.where(lengths == 0, 1.0, lengths)
