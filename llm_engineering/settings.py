"""Where things are, and the keys to them. What a run does lives in configs/."""

from pathlib import Path

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from llm_engineering.domain.errors import ConfigError


class Settings(BaseSettings):
    """Read from TWIN_* environment variables, then from `.env`, then these defaults."""

    model_config = SettingsConfigDict(env_prefix="TWIN_", env_file=".env", extra="forbid", frozen=True)

    home: Path = Path(".twin")  # everything the embedded defaults write
    warehouse: str = ""  # sqlite:///PATH or mongodb://…/DATABASE; empty: sqlite in home
    vectors: str = ""  # edge:///FOLDER or http(s)://HOST:6333; empty: edge in home
    qdrant_api_key: SecretStr | None = None
    embedder: str = "all-MiniLM-L6-v2"  # any sentence-transformers id or folder, or hashing:SIZE
    embedder_precision: str = "auto"  # auto, float32 or bfloat16

    chromium: Path | None = None  # the browser; found by itself where Debian, Chrome or macOS put it
    linkedin_username: str | None = None
    linkedin_password: SecretStr | None = None

    @property
    def warehouse_url(self) -> str:
        return self.warehouse or f"sqlite:///{self.home / 'warehouse.db'}"

    @property
    def vectors_url(self) -> str:
        return self.vectors or f"edge:///{self.home / 'vectors'}"


def load_settings() -> Settings:
    """Raises ConfigError that names the variable, never its value."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"  TWIN_{'_'.join(map(str, e['loc'])).upper().removeprefix('TWIN_')}: {e['msg']}" for e in error.errors()
        ]
        known = ", ".join(f"TWIN_{name.upper()}" for name in Settings.model_fields)
        raise ConfigError(
            "wrong settings (environment or .env):\n" + "\n".join(lines) + f"\nknown: {known}"
        ) from None
