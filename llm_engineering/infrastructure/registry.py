"""The model registry: ZenML's Model Control Plane, with the weights in its artifact store, read where they lie.

Nothing of ZenML is imported before it is needed.
"""

import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from llm_engineering.domain.errors import ConfigError, ModelNotFound, StoreCorrupt, StoreUnavailable
from llm_engineering.domain.models import ModelVersion, Stage, check_facts, check_model_name
from llm_engineering.infrastructure.files import make_folder
from llm_engineering.infrastructure.weights import Taken, damage, model_folder, take
from llm_engineering.infrastructure.zenml.connection import connected

if TYPE_CHECKING:
    from zenml.client import Client
    from zenml.models import ArtifactVersionResponse, ModelVersionResponse

WHAT = "the model registry"
SHELF = "models"  # of the artifact store: <store>/models/<name>/<id>
WEIGHTS = "-weights"  # what an artifact is called after its model
KEPT = {"facts", "sha256", "bytes"}  # its metadata; what others call so has none
ERASED = "erased_authors"  # metadata too, once somebody it was trained on was erased
UNFINISHED = ".part"
PAGE = 500  # rows asked of ZenML at a time
LISTED = 5  # models in a message that ends with what to do


class ZenMLRegistry:
    """A version is there when its weights are linked to it, which is the last thing `register` does.

    What was cut short before is never shown; its files are removed by the next registration of that model."""

    def register(self, name: str, folder: Path, *, facts: Mapping[str, str | float] | None = None) -> ModelVersion:
        from filelock import FileLock

        check_model_name(name)
        known, source = check_facts(dict(facts or {})), model_folder(folder)
        with connected(WHAT) as client:
            store = _artifact_store(client).resolve()
            with FileLock(store / SHELF / ".lock"), ExitStack() as undo:
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
        with connected(WHAT) as client:
            found = _existing(client, name, version)
            if stage is not Stage.ARCHIVED:
                _check_whole(found)
            [row] = _rows(client, name, version)
            client.update_model_version(row.model.id, row.id, stage=stage.value, force=True)
            return _existing(client, name, version)

    def find(self, name: str, which: int | Stage = Stage.PRODUCTION) -> ModelVersion:
        check_model_name(name)
        with connected(WHAT) as client:
            found = _existing(client, name, which)
        _check_whole(found)
        return found

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        if name is not None:
            check_model_name(name)
        with connected(WHAT) as client:
            return _read(client, name)

    def flag_erased(self, name: str, version: int, author_id: str) -> ModelVersion:
        from zenml.enums import MetadataResourceTypes
        from zenml.models import RunMetadataResource

        check_model_name(name)
        with connected(WHAT) as client:
            found = _existing(client, name, version)
            [weights] = _weights(client, _rows(client, name, version), name).values()
            flags = sorted({*found.erased_authors, author_id})
            place = RunMetadataResource(id=weights.id, type=MetadataResourceTypes.ARTIFACT_VERSION)
            client.create_run_metadata({ERASED: flags}, [place])
            return _existing(client, name, version)


# --- reading -----------------------------------------------------------------------------------------------


def _rows(client: "Client", name: str | None = None, which: int | Stage | None = None) -> "list[ModelVersionResponse]":
    """ZenML's own, also those whose registration was cut short."""
    from zenml.utils.pagination_utils import depaginate

    chosen: dict[str, str | int] = {}
    if isinstance(which, Stage):
        chosen["stage"] = which.value
    elif which is not None:
        chosen["number"] = which
    if name is not None:
        chosen["model_name_or_id"] = name
    found = depaginate(client.list_model_versions, size=PAGE, **chosen)
    return [row for row in found if name in (None, row.model.name)]  # ZenML takes the beginning of an id, too


def _read(client: "Client", name: str | None = None, which: int | Stage | None = None) -> list[ModelVersion]:
    rows = _rows(client, name, which)
    weights = _weights(client, rows, name)
    versions = [_version(row, weights[row.id]) for row in rows if row.id in weights]
    return sorted(versions, key=lambda one: (one.name, -one.version))


def _weights(
    client: "Client", rows: "list[ModelVersionResponse]", name: str | None
) -> "dict[UUID, ArtifactVersionResponse]":
    """Of each of these versions that has any, by the version's id in ZenML."""
    from zenml.utils.pagination_utils import depaginate

    if not rows:
        return {}
    one = {"model_version_id": rows[0].id} if len(rows) == 1 else {}
    asked = f"equals:{name}{WEIGHTS}" if name else f"endswith:{WEIGHTS}"
    links = depaginate(client.list_model_version_artifact_links, size=PAGE, hydrate=True, artifact_name=asked, **one)
    ours = [link for link in links if link.artifact_version.run_metadata.keys() >= KEPT]
    return {link.model_version: link.artifact_version for link in ours}


def _version(row: "ModelVersionResponse", weights: "ArtifactVersionResponse") -> ModelVersion:
    said = weights.run_metadata
    fields = {
        "name": row.model.name,
        "version": row.number,
        "stage": row.stage,
        "folder": Path(weights.uri).resolve(),
        "created": row.created.replace(tzinfo=UTC),
        "facts": said["facts"],
        "sha256": said["sha256"],
        "size": said["bytes"],
        "erased_authors": said.get(ERASED, ()),
    }
    return ModelVersion.model_validate(fields)


def _existing(client: "Client", name: str, which: int | Stage) -> ModelVersion:
    if found := _read(client, name, which):
        return found[0]
    there = _read(client, name)
    if not there:
        others = sorted({one.name for one in _read(client)})
        more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
        known = f"it has {', '.join(others[:LISTED])}{more}" if others else "it is empty"
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


def _artifact_store(client: "Client") -> Path:
    where = client.active_stack.artifact_store.path
    if "://" in where:
        raise StoreUnavailable(
            f"the active ZenML stack keeps its artifacts at {where}, but weights are read from a folder: choose a "
            "stack whose artifact store is a folder of this machine, which may be a mounted one"
        )
    return Path(where)


# --- writing -----------------------------------------------------------------------------------------------


def _record(
    client: "Client", undo: ExitStack, *, name: str, place: Path, taken: Taken, facts: Mapping[str, str | float]
) -> "tuple[ModelVersionResponse, ArtifactVersionResponse]":
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
            artifact_metadata={"facts": dict(facts), "sha256": taken.sha256, "bytes": taken.size},
        )
    except RuntimeError as error:
        raise ConfigError(f"{error} What is registered never changes: register a copy of the folder") from error
    undo.callback(client.delete_artifact_version, weights.id)
    return version, weights


def _link(client: "Client", version: "ModelVersionResponse", weights: "ArtifactVersionResponse") -> None:
    from zenml.models import ModelVersionArtifactRequest

    client.zen_store.create_model_version_artifact_link(
        ModelVersionArtifactRequest(model_version=version.id, artifact_version=weights.id)
    )


def _fresh_place(shelf: Path) -> Path:
    """Call it as the one writer: what others left unfinished is removed."""
    make_folder(shelf)
    for left in shelf.glob(f"*{UNFINISHED}"):
        shutil.rmtree(left)
    return shelf / uuid4().hex[:12]
