"""The model registry: ZenML's Model Control Plane, with the weights in its artifact store, read where they lie.

Besides the orchestration this is the one place that knows ZenML; nothing of it is imported before it is needed.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from llm_engineering.domain.errors import ConfigError, ModelNotFound, StoreCorrupt, StoreUnavailable
from llm_engineering.domain.models import ModelVersion, Stage, check_facts, check_model_name
from llm_engineering.infrastructure.weights import Taken, damage, model_folder, take

if TYPE_CHECKING:
    from zenml.client import Client

ROOT = Path(__file__).resolve().parents[2]
SHELF = "models"  # of the artifact store: <store>/models/<name>/<id>
WEIGHTS = "-weights"  # what an artifact is called after its model
KEPT = {"facts", "sha256", "bytes"}  # its metadata; what others call so has none
UNFINISHED = ".part"
PAGE = 500  # rows asked of ZenML at a time


class ZenMLRegistry:
    """A version is there when its weights are linked to it, which is the last thing `register` does.

    What was cut short before is never shown; its files are removed by the next registration of that model."""

    def register(self, name: str, folder: Path, *, facts: Mapping[str, str | float] | None = None) -> ModelVersion:
        check_model_name(name)
        known, source = check_facts(dict(facts or {})), model_folder(folder)
        with _zenml() as client:
            store = _artifact_store(client).resolve()
            with _one_at_a_time(store / SHELF / ".lock"), ExitStack() as undo:
                stored = _read(client, name)
                lies_there = source.is_relative_to(store)
                place = source if lies_there else _fresh_place(store / SHELF / name)
                part = place.with_name(place.name + UNFINISHED)
                undo.callback(shutil.rmtree, part, ignore_errors=True)
                taken = take(source, into=None if lies_there else part)
                for one in stored:
                    if (one.sha256, one.facts) == (taken.sha256, known) and not damage(one):
                        return one
                version, weights = _record(client, undo, name=name, place=place, taken=taken, facts=known)
                if not lies_there:
                    undo.callback(shutil.rmtree, place, ignore_errors=True)
                    part.rename(place)
                _link(client, version, weights)
                undo.pop_all()
            return _existing(client, name, version.number)

    def promote(self, name: str, version: int, stage: Stage = Stage.PRODUCTION) -> ModelVersion:
        check_model_name(name)
        with _zenml() as client:
            found = _existing(client, name, version)
            if stage is not Stage.ARCHIVED:
                _check_whole(found)
            [row] = _rows(client, name, version)
            client.update_model_version(row.model.id, row.id, stage=stage.value, force=True)
            return _existing(client, name, version)

    def find(self, name: str, which: int | Stage = Stage.PRODUCTION) -> ModelVersion:
        check_model_name(name)
        with _zenml() as client:
            found = _existing(client, name, which)
        _check_whole(found)
        return found

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        if name is not None:
            check_model_name(name)
        with _zenml() as client:
            return _read(client, name)


# --- reading -----------------------------------------------------------------------------------------------


def _rows(client: "Client", name: str | None = None, which: int | Stage | None = None) -> list[Any]:
    """ZenML's own, also those whose registration was cut short."""
    from zenml.utils.pagination_utils import depaginate

    chosen: dict[str, Any] = {}
    if isinstance(which, Stage):
        chosen["stage"] = which.value
    elif which is not None:
        chosen["number"] = which
    if name is not None:
        chosen["model_name_or_id"] = name
    found = depaginate(client.list_model_versions, size=PAGE, **chosen)
    return [row for row in found if name in (None, row.model.name)]  # ZenML takes the beginning of an id, too


def _read(client: "Client", name: str | None = None, which: int | Stage | None = None) -> list[ModelVersion]:
    from zenml.utils.pagination_utils import depaginate

    rows = _rows(client, name, which)
    if not rows:
        return []
    one = {"model_version_id": rows[0].id} if len(rows) == 1 else {}
    asked = f"equals:{name}{WEIGHTS}" if name else f"endswith:{WEIGHTS}"
    links = depaginate(client.list_model_version_artifact_links, size=PAGE, hydrate=True, artifact_name=asked, **one)
    ours = [link for link in links if link.artifact_version.run_metadata.keys() >= KEPT]
    weights = {link.model_version: link.artifact_version for link in ours}
    versions = [_version(row, weights[row.id]) for row in rows if row.id in weights]
    return sorted(versions, key=lambda one: (one.name, -one.version))


def _version(row: Any, weights: Any) -> ModelVersion:
    said = weights.run_metadata
    return ModelVersion(
        name=row.model.name,
        version=row.number,
        stage=row.stage,
        folder=Path(weights.uri).resolve(),
        created=row.created.replace(tzinfo=UTC),
        facts=said["facts"],
        sha256=said["sha256"],
        size=said["bytes"],
    )


def _existing(client: "Client", name: str, which: int | Stage) -> ModelVersion:
    if found := _read(client, name, which):
        return found[0]
    there = _read(client, name)
    if not there:
        others = sorted({one.name for one in _read(client)})
        known = f"it has {', '.join(others)}" if others else "it is empty"
        raise ModelNotFound(
            f"the registry has no model {name} ({known}): `poe models register {name} FOLDER`, "
            f"then `poe models promote {name} VERSION`"
        )
    what = f"no version {which} of {name}" if isinstance(which, int) else f"no version of {name} in {which}"
    listed = ", ".join(f"{one.version} ({one.stage})" if one.stage else str(one.version) for one in there)
    stage = "" if which == Stage.PRODUCTION or isinstance(which, int) else f" --stage {which}"
    mend = "" if isinstance(which, int) else f": `poe models promote {name} VERSION{stage}`"
    raise ModelNotFound(f"the registry has {what}; there is {listed}{mend}")


def _check_whole(version: ModelVersion) -> None:
    if trouble := damage(version):
        raise StoreCorrupt(
            f"the weights of {version} are not what was registered: {trouble}. Restore them, register the model "
            f"again, or go back: `poe models promote {version.name} VERSION`"
        )


# --- writing -----------------------------------------------------------------------------------------------


def _record(client: "Client", undo: ExitStack, *, name: str, place: Path, taken: Taken, facts: dict) -> tuple[Any, Any]:
    """A version and its weights in ZenML; nobody sees them while they are not linked."""
    from zenml import register_artifact
    from zenml.enums import ArtifactType
    from zenml.exceptions import EntityExistsError

    store = _artifact_store(client)
    with suppress(EntityExistsError):
        client.create_model(name)
    version = client.create_model_version(name)
    undo.callback(client.delete_model_version, version.id)
    try:
        weights = register_artifact(
            str(store / place.relative_to(store.resolve())),  # ZenML wants its own spelling of the store
            name=f"{name}{WEIGHTS}",
            artifact_type=ArtifactType.MODEL,
            artifact_metadata={"facts": facts, "sha256": taken.sha256, "bytes": taken.size},
        )
    except RuntimeError as error:
        raise ConfigError(f"{error} What is registered never changes: register a copy of the folder") from error
    undo.callback(client.delete_artifact_version, weights.id)
    return version, weights


def _link(client: "Client", version: Any, weights: Any) -> None:
    from zenml.models import ModelVersionArtifactRequest

    client.zen_store.create_model_version_artifact_link(
        ModelVersionArtifactRequest(model_version=version.id, artifact_version=weights.id)
    )


def _fresh_place(shelf: Path) -> Path:
    """Call it as the one writer: what others left unfinished is removed."""
    shelf.mkdir(parents=True, exist_ok=True)
    for left in shelf.glob(f"*{UNFINISHED}"):
        shutil.rmtree(left)
    return shelf / uuid4().hex[:12]


# --- ZenML -------------------------------------------------------------------------------------------------


def open_zenml(*, debug: bool = False) -> "Client":
    """Quiet, and telling nobody. Call it before anything imports zenml."""
    os.environ.setdefault("ZENML_ANALYTICS_OPT_IN", "false")
    os.environ.setdefault("ZENML_LOGGING_VERBOSITY", "INFO" if debug else "ERROR")
    os.environ.setdefault("ZENML_ENABLE_RICH_TRACEBACK", "false")
    from zenml.client import Client
    from zenml.config.global_config import GlobalConfiguration
    from zenml.utils import source_utils

    source_utils.set_custom_source_root(str(ROOT))
    if not debug:
        for name in ("zenml", "alembic", "sqlalchemy"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with _one_at_a_time(Path(GlobalConfiguration().config_directory) / ".llm-twin.lock"):
        _ = GlobalConfiguration().zen_store  # made when first asked; two processes that do so at once break it
    return Client()


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _zenml() -> Iterator["Client"]:
    """Raises StoreUnavailable when ZenML, its database or its artifact store cannot be reached, read or written."""
    try:
        yield open_zenml()
    except OSError as error:
        raise _unusable(error) from error
    except Exception as error:
        from sqlalchemy.exc import SQLAlchemyError
        from zenml.exceptions import ZenMLBaseException

        if isinstance(error, SQLAlchemyError | ZenMLBaseException):
            raise _unusable(error) from error
        raise


def _unusable(error: Exception) -> StoreUnavailable:
    line = (str(error).strip() or type(error).__name__).partition("\n")[0][:300]
    return StoreUnavailable(f"the model registry (ZenML) cannot be used: {line}. `poe doctor` looks at it")


def _artifact_store(client: "Client") -> Path:
    where = client.active_stack.artifact_store.path
    if "://" in where:
        raise StoreUnavailable(
            f"the active ZenML stack keeps its artifacts at {where}, but weights are read from a folder: choose a "
            "stack whose artifact store is a folder of this machine, which may be a mounted one"
        )
    return Path(where)
