"""An upper limit for the speed of generation, from two numbers that are easy to find out."""


def tokens_per_second(size_gb: float, bandwidth_gb_per_second: float) -> float:
    """Every token reads every weight once, so memory bandwidth divided by model size is the limit."""
    if size_gb <= 0 or bandwidth_gb_per_second <= 0:
        raise ValueError("size and bandwidth must be above zero")
    return bandwidth_gb_per_second / size_gb


def batched(size_gb: float, bandwidth_gb_per_second: float, seats: int) -> float:
    """All conversations of a batch share one read of the weights."""
    return seats * tokens_per_second(size_gb, bandwidth_gb_per_second)
