"""Who may ask: API keys, shown once and stored as their hash, each with a team's rate, quota and end."""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from llm_engineering.domain.errors import ConfigError, StoreUnavailable
from llm_engineering.domain.noun import Noun
from llm_engineering.infrastructure.files import write_whole
from llm_engineering.serving.api.errors import AUTHENTICATION, ApiError
from llm_engineering.settings import Settings

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
        self._read_from: tuple[int, int, int] | None = None
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
        key = next((key for key in keys if key.id == key_id), None)
        if key is None or key.revoked:
            known = ", ".join(one.id for one in keys if not one.revoked) or "none"
            raise ConfigError(f"no key to revoke has the id {key_id!r}; there are: {known}")
        revoked = key.model_copy(update={"revoked": self._now()})
        self._write(tuple(revoked if one is key else one for one in keys))
        return revoked

    def all(self) -> tuple[ApiKey, ...]:
        """Raises StoreUnavailable when the file cannot be read."""
        with self._lock:
            try:
                status = self._path.stat()
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                if stamp != self._read_from:
                    self._keys, self._read_from = _KEYS.validate_json(self._path.read_bytes()), stamp
            except FileNotFoundError:
                self._keys, self._read_from = (), None
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
        """The active key. Raises ApiError (401) that says what is wrong with this one."""
        digest = _hash(secret)
        found = None
        for key in self.all():  # all of them, each in constant time
            if hmac.compare_digest(key.hash, digest):
                found = key
        if found is None:
            raise unauthorized("this API key is not known; check it, or ask for one: `poe serve-keys add TEAM`")
        state = found.state(self._now())
        if state != "active":
            raise unauthorized(f"this API key is {state}; ask for a new one: `poe serve-keys add TEAM`")
        return found

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        try:
            write_whole(self._path, _KEYS.dump_json(keys, indent=1))
        except OSError as error:
            raise StoreUnavailable(f"{self._path} cannot be written: {error.strerror}") from error


def key_ring(settings: Settings) -> KeyRing:
    return KeyRing(settings.home / "api_keys.json")


def unauthorized(message: str) -> ApiError:
    return ApiError(401, message, type=AUTHENTICATION, code="invalid_api_key")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
