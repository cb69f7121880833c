"""Where things are, and the keys to them. What a run does lives in configs/."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

from llm_engineering.domain.errors import ConfigError

PREFIX = "TWIN_"


def _fit_for_a_header(key: SecretStr) -> SecretStr:
    text = key.get_secret_value().strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a key holds no space, no line break and ASCII only; was it copied whole?")
    return SecretStr(text)


Key = Annotated[SecretStr, AfterValidator(_fit_for_a_header)]


class Settings(BaseSettings):
    """Read from TWIN_* environment variables, then from `.env`, then these defaults."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    home: Path = Path(".twin")  # everything the embedded defaults write
    warehouse: str = ""  # sqlite:///PATH or mongodb://…/DATABASE; empty: sqlite in home
    vectors: str = ""  # edge:///FOLDER or http(s)://HOST:6333; empty: edge in home
    qdrant_api_key: Key | None = None
    embedder: str = "all-MiniLM-L6-v2"  # any sentence-transformers id or folder, or hashing:SIZE
    embedder_precision: Literal["auto", "float32", "bfloat16"] = "auto"

    # what answers: extractive, openai:MODEL (any OpenAI-compatible server), transformers:FOLDER-OR-ID, or
    # registry:NAME (what is in production), registry:NAME@VERSION, registry:NAME@staging
    language_model: str = "extractive"
    openai_base_url: str = "https://api.openai.com/v1"
    openai_api_key: Key | None = None
    openai_timeout: float = 60.0  # seconds to the next piece of an answer

    # where it is served; another host than loopback needs keys (`poe serve-keys add TEAM`)
    api_host: str = "127.0.0.1"
    api_port: int = 8000
    api_processes: int = Field(default=0, ge=0, le=64)  # that answer side by side; 0: as many as fit
    api_work_seconds: float = Field(default=15.0, gt=0)  # of work on one request, without its wait for a model
    api_connections: int = Field(default=1000, ge=1)  # open at once, if the system allows so many files
    api_connections_per_address: int = Field(default=128, ge=0)  # of one address; 0: any; loopback has no bound
    api_max_body_bytes: int = Field(default=1_000_000, ge=1)  # of one request; a larger one is refused (413)
    api_hosts: str = ""  # further names a server on loopback answers to, with commas, as behind a proxy
    api_origins: str = ""  # whose pages may call it from a browser (CORS), with commas: https://app.example

    # where traces go: a JSONL file in home, an Opik server (self-hosted or cloud), or nowhere
    tracing: Literal["jsonl", "opik", "off"] = "jsonl"
    opik_url: str = ""  # empty: the cloud
    opik_api_key: Key | None = None
    opik_workspace: str = ""

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
    """Raises ConfigError that names the variable and what would be right, never a value."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    written = {*os.environ, *map(str.upper, filter(None, DotEnvSettingsSource(Settings).env_vars))}
    lines = []
    for name in sorted(name for name in written if name.startswith(PREFIX) and name not in known):
        close = get_close_matches(name, known, n=1)
        lines.append(f"  {name} is no setting" + (f"; did you mean {close[0]}?" if close else ""))
    try:
        settings = Settings()
    except ValidationError as error:
        lines += [f"  {PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False)]
    if lines:
        raise ConfigError("\n".join(["wrong settings (environment or .env):", *lines, f"known: {', '.join(known)}"]))
    return settings
