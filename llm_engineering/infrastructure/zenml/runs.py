"""What ZenML keeps of the runs of our pipelines: configs, step logs, reports and pages."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.domain.errors import StoreLocked
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased
from llm_engineering.domain.text import redacted_url
from llm_engineering.infrastructure.zenml.connection import connected

if TYPE_CHECKING:
    from uuid import UUID

    from zenml.client import Client
    from zenml.models import ArtifactVersionResponse, PipelineRunResponse, PipelineSnapshotResponse, StepRunResponse

WHAT = "the record of runs"
OURS = "pipelines."  # the package of our pipelines; what others run in the same ZenML is left alone
PAGE = 100  # rows asked of ZenML at a time
READ = 2**26  # bytes of one file that are searched; reports, pages and logs have far less


class ZenMLRuns:
    """See `PersonalData`. A run that read several authors goes whole, for its config, its logs and its page name them
    all; nothing but the record of it is lost with it. Weights that a run made are the registry's business."""

    def holds(self, subject: DataSubject) -> int:
        with connected(WHAT) as client:
            return len(_runs_about(client, subject))

    def erase(self, subject: DataSubject) -> Erased:
        """Its files first and its row last, so that a run cut short is found again. Raises StoreLocked when another
        process, such as the dashboard, holds ZenML's database."""
        with connected(WHAT) as client:
            runs = _runs_about(client, subject)
            for run in runs:
                _delete_run(client, run)
            for snapshot in _snapshots(client):
                if subject.is_in(snapshot.model_dump_json()):
                    client.delete_snapshot(snapshot.id)
            return Erased(len(runs), _wipe(client))


# --- finding -----------------------------------------------------------------------------------------------


def _runs_about(client: "Client", subject: DataSubject) -> "list[PipelineRunResponse]":
    from zenml.utils.pagination_utils import depaginate

    snapshots = {snapshot.id: snapshot.model_dump_json() for snapshot in _snapshots(client)}
    runs = depaginate(client.list_pipeline_runs, size=PAGE, hydrate=True)
    ours = [run for run in runs if run.snapshot is None or run.snapshot.id in snapshots]
    return [
        run
        for run in ours
        if (run.snapshot and subject.is_in(snapshots[run.snapshot.id])) or any(map(subject.is_in, _texts(client, run)))
    ]


def _snapshots(client: "Client") -> "Iterator[PipelineSnapshotResponse]":
    """What runs were started from: config and parameters. One outlives its run."""
    from zenml.utils.pagination_utils import depaginate

    for snapshot in depaginate(client.list_snapshots, size=PAGE, hydrate=True, named_only=False):
        spec = snapshot.pipeline_spec
        if spec and spec.source and spec.source.module.startswith(OURS):
            yield snapshot


def _texts(client: "Client", run: "PipelineRunResponse") -> Iterator[str]:
    """Everything that is kept of a run beside its snapshot."""
    yield run.model_dump_json()
    for step in _steps(client, run):
        yield step.model_dump_json()
        for artifact in _artifacts(step):
            yield from map(_text, _files(artifact.uri))
    yield from map(_text, _logs(client, run))


def _steps(client: "Client", run: "PipelineRunResponse") -> "list[StepRunResponse]":
    from zenml.utils.pagination_utils import depaginate

    return depaginate(client.list_run_steps, size=PAGE, pipeline_run_id=run.id, exclude_retried=False, hydrate=True)


def _artifacts(step: "StepRunResponse") -> "Iterator[ArtifactVersionResponse]":
    from zenml.enums import ArtifactType

    for outputs in step.outputs.values():
        yield from (one for one in outputs if one.type != ArtifactType.MODEL)


def _logs(client: "Client", run: "PipelineRunResponse") -> Iterator[str]:
    kept = [*(run.log_collection or ()), *(log for step in _steps(client, run) for log in step.log_collection or ())]
    yield from (path for log in kept if log.uri for path in _files(log.uri))


def _files(uri: str) -> Iterator[str]:
    from zenml.io import fileio

    if not fileio.isdir(uri):
        yield from [uri] if fileio.exists(uri) else []
        return
    for folder, _, names in fileio.walk(uri):
        yield from (f"{folder!s}/{name!s}" for name in names)


def _text(path: str) -> str:
    from zenml.io import fileio

    with fileio.open(path, "rb") as file:
        return file.read(READ).decode(errors="replace")


# --- erasing -----------------------------------------------------------------------------------------------


def _delete_run(client: "Client", run: "PipelineRunResponse") -> None:
    from zenml.io import fileio

    for path in _logs(client, run):
        fileio.remove(path)
    steps = _steps(client, run)
    artifacts = [artifact for step in steps for artifact in _artifacts(step)]
    _delete_metadata(client, [row.id for row in (run, *steps, *artifacts)])
    for artifact in artifacts:
        if fileio.exists(artifact.uri):
            fileio.rmtree(artifact.uri)
        _remove_empty_folders(artifact.uri)
        client.zen_store.delete_artifact_version(artifact.id)
    client.zen_store.delete_run(run.id)
    if run.snapshot:
        client.delete_snapshot(run.snapshot.id)


def _delete_metadata(client: "Client", rows: "list[UUID]") -> None:
    """ZenML leaves it behind when it deletes what it was logged for, and has no call of its own to delete it."""
    from sqlmodel import col, delete, select
    from zenml.zen_stores.schemas import RunMetadataResourceSchema as Link
    from zenml.zen_stores.schemas import RunMetadataSchema as Metadata
    from zenml.zen_stores.sql_zen_store import SqlZenStore

    if isinstance(client.zen_store, SqlZenStore):
        logged = select(Link.run_metadata_id).where(col(Link.resource_id).in_(rows))
        with client.zen_store.engine.begin() as connection:
            connection.execute(delete(Metadata).where(col(Metadata.id).in_(logged)))


def _remove_empty_folders(uri: str) -> None:
    """Above a folder that is gone: ZenML names them after the step, and that after the author."""
    if "://" not in uri:
        with suppress(OSError):  # the first that is not empty
            for folder in Path(uri).parents:
                folder.rmdir()


def _wipe(client: "Client") -> str:
    """Leave nothing of what was deleted in the free pages of the database; what cannot be done from here."""
    from sqlalchemy.exc import OperationalError
    from zenml.zen_stores.sql_zen_store import SQLDatabaseDriver, SqlZenStore

    store = client.zen_store
    if not isinstance(store, SqlZenStore) or store.config.driver != SQLDatabaseDriver.SQLITE:
        return (
            f"ask the administrator of ZenML at {redacted_url(store.url)} about the backups and free pages of its "
            "database, and about the metadata of deleted runs, which a server keeps"
        )
    try:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM")
    except OperationalError as error:
        raise StoreLocked(
            f"the runs are deleted, but copies may remain in ZenML's database, because another process uses it or the "
            f"disk is full ({error.orig}): end that (`poe dashboard --stop`) and run the same command again"
        ) from error
    return ""
