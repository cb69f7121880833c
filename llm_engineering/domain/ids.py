"""Same parts, same id: writing twice is the same as writing once."""

import hashlib
import uuid

NAMESPACE = uuid.UUID("6c6c6d2d-7477-696e-2d69-640000000001")


def stable_id(*parts: str) -> str:
    """A UUIDv5 (RFC 9562) of the parts, in order."""
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(parts)))


def content_hash(*parts: str) -> str:
    """128 bits of BLAKE2b as 32 hex digits; each part's length is hashed too, so ("ab", "c") is not ("a", "bc")."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()
