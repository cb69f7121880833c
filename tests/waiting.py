"""Waiting for what a server, a browser or another process is about to do."""

SECONDS = 90  # to wait at most, on a machine that is busy with other things


def until(true):
    import time

    end = time.monotonic() + SECONDS
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
    return found
