"""Who may ask: API keys, shown once and stored as their hash, each with a team's rate, quota and end."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from llm_engineering.domain.errors import ConfigError, StoreUnavailable
from llm_engineering.domain.noun import Noun
from llm_engineering.serving.api.errors import AUTHENTICATION, ApiError

PREFIX = "twin-"


class ApiKey(Noun):
    """`hash` is the SHA-256 of a random 256-bit secret, which no table of guesses can turn round."""

    id: str  # the first eight characters of the hash
    team: str = Field(min_length=1, max_length=100)
    hash: str
    rate: int | None = Field(default=None, ge=1)  # requests a minute
    quota: int | None = Field(default=None, ge=1)  # requests a UTC day
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    def state(self, now: datetime) -> str:
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"


_KEYS = TypeAdapter(tuple[ApiKey, ...])


class KeyRing:
    """The keys in one file, which a running server reads again whenever it changes."""

    def __init__(self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path, self._now, self._lock = path, now, Lock()
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[ApiKey, ...] = ()

    def add(
        self, team: str, *, rate: int | None = None, quota: int | None = None, expires: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """The stored key, and the secret, which is nowhere else. Raises ConfigError, StoreUnavailable."""
        if expires is not None and expires <= self._now():
            raise ConfigError(f"the key would have expired on {expires:%Y-%m-%d %H:%M %Z}: give a later time")
        secret = PREFIX + secrets.token_urlsafe(32)
        digest = _hash(secret)
        try:
            key = ApiKey(
                id=digest[:8], team=team.strip(), hash=digest, rate=rate, quota=quota, created=self._now(),
                expires=expires,
            )  # fmt: skip
        except ValidationError as error:
            wrong = error.errors()[0]
            raise ConfigError(f"{wrong['loc'][0]}: {wrong['msg']}") from None
        self._write((*self.all(), key))
        return key, secret

    def revoke(self, key_id: str) -> ApiKey:
        """Raises ConfigError when no active key has this id."""
        keys = self.all()
        found = next((key for key in keys if key.id == key_id), None)
        if found is None or found.revoked:
            known = ", ".join(key.id for key in keys if not key.revoked) or "none"
            raise ConfigError(f"no key to revoke has the id {key_id!r}; there are: {known}")
        gone = found.model_copy(update={"revoked": self._now()})
        self._write(tuple(gone if key.id == key_id else key for key in keys))
        return gone

    def all(self) -> tuple[ApiKey, ...]:
        """Raises StoreUnavailable when the file cannot be read."""
        with self._lock:
            try:
                found = self._path.stat()
                stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
                if stamp != self._seen:
                    self._keys, self._seen = _KEYS.validate_json(self._path.read_bytes()), stamp
            except FileNotFoundError:
                self._keys, self._seen = (), None
            except ValidationError as error:
                raise StoreUnavailable(
                    f"{self._path} is damaged ({error.errors()[0]['msg']}); mend it, or remove it and make new keys"
                ) from None
            except OSError as error:
                raise StoreUnavailable(f"{self._path} cannot be read: {error.strerror}") from error
            return self._keys

    def any_active(self) -> bool:
        return any(key.state(self._now()) == "active" for key in self.all())

    def find(self, secret: str) -> ApiKey:
        """The active key. Raises Trouble (401) that says what is wrong with this one."""
        digest = _hash(secret)
        found = None
        for key in self.all():  # all of them, each in constant time
            if hmac.compare_digest(key.hash, digest):
                found = key
        if found is None:
            raise refused("this API key is not known; check it, or ask for one: `poe serve-keys add TEAM`")
        state = found.state(self._now())
        if state != "active":
            raise refused(f"this API key is {state}; ask for a new one: `poe serve-keys add TEAM`")
        return found

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        """Whole or not at all, and readable by the owner only from its first byte on."""
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(_KEYS.dump_json(keys, indent=1))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            raise StoreUnavailable(f"{self._path} cannot be written: {error.strerror}") from error


def refused(message: str) -> ApiError:
    return ApiError(401, message, type=AUTHENTICATION, code="invalid_api_key")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
