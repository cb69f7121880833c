"""Who may ask: API keys, shown once and stored as their hash, each with a team's rate, quota and end."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from llm_engineering.domain.errors import ConfigError, StoreUnavailable
from llm_engineering.domain.noun import Noun
from llm_engineering.infrastructure.files import make_folder, reason_of, write_whole
from llm_engineering.infrastructure.json_lines import append_lines, lock_file
from llm_engineering.serving.api.errors import AUTHENTICATION, ApiError
from llm_engineering.settings import Settings

PREFIX = "twin-"
LOCKED_FOR = 30.0  # seconds that another process may take to change the keys


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


class _Revocation(Noun):
    id: str
    revoked: AwareDatetime


_KEYS = TypeAdapter(tuple[ApiKey, ...])
_Stamp = tuple[int, int, int] | None  # of a file; another one means other content


class KeyRing:
    """The keys in one file, which a running server reads again whenever it changes. One process changes it at a time.

    What was revoked stands in a file of its own beside it too, to which lines are only ever added: no copy of the keys
    that is written back, by whatever wrote or restored it, makes a revoked key good again.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path, self._now, self._lock = path, now, Lock()
        self._revocations = path.with_name(f"{path.stem}.revoked.jsonl")
        self._read_from: tuple[_Stamp, _Stamp] | None = None
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
        with self._changing() as keys:
            self._write((*keys, key))
        return key, secret

    def revoke(self, key_id: str) -> ApiKey:
        """Raises ConfigError when no active key has this id, and StoreUnavailable."""
        with self._changing() as keys:
            key = next((key for key in keys if key.id == key_id), None)
            if key is None or key.revoked:
                known = ", ".join(one.id for one in keys if not one.revoked) or "none"
                raise ConfigError(f"no key to revoke has the id {key_id!r}; there are: {known}")
            revocation = _Revocation(id=key.id, revoked=self._now())
            self._write_revocation(revocation)
            revoked = key.model_copy(update={"revoked": revocation.revoked})
            self._write(tuple(revoked if one is key else one for one in keys))
        return revoked

    def all(self) -> tuple[ApiKey, ...]:
        """Raises StoreUnavailable when the file cannot be read."""
        with self._lock:
            try:
                stamp = (_stamp(self._path), _stamp(self._revocations))
                if stamp != self._read_from:
                    self._keys, self._read_from = self._read(), stamp
            except ValidationError as error:
                raise StoreUnavailable(
                    f"{self._path} is damaged ({error.errors()[0]['msg']}); mend it, or remove it and make new keys"
                ) from None
            except OSError as error:
                raise StoreUnavailable(f"{self._path} cannot be read: {error.strerror}") from error
            return self._keys

    def _read(self) -> tuple[ApiKey, ...]:
        if not self._path.exists():
            return ()
        keys, revoked = _KEYS.validate_json(self._path.read_bytes()), {}
        if self._revocations.exists():
            lines = self._revocations.read_bytes().splitlines()
            revoked = {one.id: one.revoked for one in map(_revocation, lines) if one}
        return tuple(
            key.model_copy(update={"revoked": revoked[key.id]}) if key.id in revoked and not key.revoked else key
            for key in keys
        )

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

    @contextmanager
    def _changing(self) -> Generator[tuple[ApiKey, ...]]:
        """The keys as they are now; no other process changes them meanwhile. Raises StoreUnavailable."""
        from filelock import Timeout

        try:
            make_folder(self._path.parent)
            with lock_file(self._path.with_name(f".{self._path.name}.lock")).acquire(timeout=LOCKED_FOR):
                yield self.all()
        except Timeout:
            raise StoreUnavailable(f"another process has been changing {self._path} for long; try again") from None
        except OSError as error:
            raise StoreUnavailable(f"{self._path} cannot be written: {reason_of(error)}") from error

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        write_whole(self._path, _KEYS.dump_json(keys, indent=1), mode=0o600)

    def _write_revocation(self, revocation: _Revocation) -> None:
        line = revocation.model_dump_json().encode() + b"\n"
        lock = lock_file(self._revocations.with_name(f".{self._revocations.name}.lock"))
        append_lines(self._revocations, line, lock=lock, durable=True)


def _revocation(line: bytes) -> _Revocation | None:
    """None for the torn line of a process that died."""
    try:
        return _Revocation.model_validate_json(line)
    except ValidationError:
        return None


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def key_ring(settings: Settings) -> KeyRing:
    return KeyRing(settings.home / "api_keys.json")


def unauthorized(message: str) -> ApiError:
    return ApiError(401, message, type=AUTHENTICATION, code="invalid_api_key")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
