"""`poe doctor`: every configured piece, whether it works, and how to mend what does not. Exit code 1 if it must be."""

import os
import shutil
import sys
from contextlib import closing

import click

from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.text import redacted_url
from llm_engineering.operate.plans import store_exists
from llm_engineering.settings import Settings
from tools.diagnosis import Check, CheckFailed, State, examine, print_findings
from tools.terminal import say_json

LITTLE_SPACE = 2_000_000_000  # bytes; the embedded stores of a few thousand pages take some hundred MB


def python(_: Settings) -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info < (3, 13):
        raise CheckFailed(version, "use Python 3.11 or 3.12: make setup PYTHON=python3.12")
    return version


def configs(_: Settings) -> str:
    from llm_engineering.operate.configs import FOLDER, load_config
    from llm_engineering.operate.pipelines import PIPELINES

    wrong, fine = [], []
    for pipeline in PIPELINES:
        if not (path := FOLDER / f"{pipeline.name}.yaml").exists():
            wrong.append(f"{path} is not there")
            continue
        try:
            load_config(pipeline.name, pipeline.config)
            fine.append(path.name)
        except LLMTwinError as error:
            wrong.append(str(error))
    if wrong:
        raise CheckFailed("\n".join(wrong), "correct them, or name another with --config", state=State.NOTE)
    return ", ".join(fine)


def warehouse(settings: Settings) -> str:
    from llm_engineering.bootstrap import build_warehouse

    url = settings.warehouse_url
    if not store_exists(url):
        raise CheckFailed(f"{redacted_url(url)}: nothing stored yet", "poe run-etl makes it", state=State.NOTE)
    stored, _ = build_warehouse(url)  # looks at the version, the indexes and, on MongoDB, the replica set
    try:
        return f"{redacted_url(url)}: {stored.count():,} documents"
    finally:
        stored.close()


def vectors(settings: Settings) -> str:
    from llm_engineering.bootstrap import build_vector_store

    url = settings.vectors_url
    where = redacted_url(url)
    nothing = CheckFailed(f"{where}: no index yet", "poe run-features makes it", state=State.NOTE)
    if not store_exists(url):
        raise nothing
    with closing(build_vector_store(settings).reader()) as reader:
        if (info := reader.info()) is None:
            raise nothing
    return f"{where}: {info.chunks:,} passages of {info.spec.embedding.model_id}, version {info.version}"


def lock(settings: Settings) -> str:
    """Whether a run could write the index now."""
    from llm_engineering.bootstrap import local_path

    url = settings.vectors_url
    if not url.startswith("edge:"):
        return "a server needs none"
    from llm_engineering.domain.errors import StoreLocked
    from llm_engineering.infrastructure.vectors import index_versions

    root = local_path("TWIN_VECTORS", url)
    if not root.exists():
        return "free"
    if not os.access(root, os.W_OK):
        raise CheckFailed(f"{root} cannot be written", "no run can write the index", state=State.NOTE)
    try:
        with index_versions.lock(root):
            return "free"
    except StoreLocked as error:
        raise CheckFailed(str(error), "a run is going on; wait for it", state=State.NOTE) from None


def freshness(settings: Settings) -> str:
    """Whether the index holds what the warehouse holds, and was made with the embedder that is configured."""
    from llm_engineering.bootstrap import open_platform
    from llm_engineering.domain.errors import TokenExpired

    if not (store_exists(settings.warehouse_url) and store_exists(settings.vectors_url)):
        return "nothing to compare yet"
    with open_platform(settings) as twin:
        with closing(twin.vectors.reader()) as reader:
            info = reader.info()
        if info is None:
            return "nothing to compare yet"
        built, configured = info.spec.embedding, twin.embedder.spec
        if not configured.can_read(built):
            raise CheckFailed(
                f"the index was made with {built}, the embedder is {configured}",
                "poe run-features --rebuild, or set TWIN_EMBEDDER back",
            )
        if built.revision is None:
            raise CheckFailed(
                "the index does not say which revision of its embedder made it", "poe run-features --rebuild once"
            )
        if info.warehouse and info.warehouse.id != twin.warehouse.ref.id:
            raise CheckFailed(
                f"the index was filled from the warehouse {info.warehouse}, this is {twin.warehouse.ref}",
                "correct TWIN_WAREHOUSE, TWIN_VECTORS or TWIN_HOME; or poe run-features --allow-empty",
            )
        try:
            waiting = sum(1 for _ in twin.warehouse.changes(info.token))
        except TokenExpired as error:
            raise CheckFailed(str(error), "poe run-features compares everything", state=State.NOTE) from None
    if waiting:
        raise CheckFailed(f"{waiting:,} changes wait", "poe run-features", state=State.NOTE)
    return "the index holds what the warehouse holds"


def embedder(settings: Settings) -> str:
    from llm_engineering.bootstrap import build_embedder

    chosen = build_embedder(settings)
    [vector] = chosen.embed(["Does it work?"])
    spec = chosen.spec
    if len(vector) != spec.size:
        raise CheckFailed(
            f"{spec.model_id} gave {len(vector)} numbers, not {spec.size}", "choose another TWIN_EMBEDDER"
        )
    return f"{spec.model_id}, {spec.size} numbers, {spec.max_tokens} tokens, precision {settings.embedder_precision}"


def model(settings: Settings) -> str:
    from llm_engineering.bootstrap import build_embedder, build_language_model

    return build_language_model(settings, build_embedder(settings)).check()


def browser(settings: Settings) -> str:
    from llm_engineering.infrastructure.fetchers.chromium import find_browser

    found = find_browser(settings.chromium)
    if found is None:
        raise CheckFailed(
            "no Chromium or Chrome with its driver: pages that need JavaScript cannot be read",
            "apt install chromium chromium-driver, or set TWIN_CHROMIUM",
        )
    program, driver = found.versions()
    if not (program and driver):
        raise CheckFailed(f"{found.binary} or {found.driver} does not start", "install it again, or set TWIN_CHROMIUM")
    return f"{program} with {driver}"


def git(_: Settings) -> str:
    import subprocess

    if not (path := shutil.which("git")):
        raise CheckFailed("not found", "install git to read repositories")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    return version.strip().removeprefix("git version ")


def zenml(_: Settings) -> str:
    from tools.orchestrator import prepare

    prepare()
    from zenml import __version__
    from zenml.client import Client

    client = Client()
    return f"{__version__}, {redacted_url(client.zen_store.url)}, stack {client.active_stack_model.name}"


def disk(settings: Settings) -> str:
    place = next(folder for folder in (settings.home.absolute(), *settings.home.absolute().parents) if folder.exists())
    if not os.access(place, os.W_OK):
        asked = settings.home.exists()
        raise CheckFailed(
            f"{place} cannot be written" + (": it can be asked, and nothing can be run" if asked else ""),
            "set TWIN_HOME to a folder of yours",
            state=State.NOTE if asked else State.BROKEN,
        )
    free = shutil.disk_usage(place).free
    if free < LITTLE_SPACE:
        raise CheckFailed(f"{free / 1e9:.1f} GB free at {place}", "free some space", state=State.NOTE)
    return f"{free / 1e9:.0f} GB free at {place}"


CHECKS = (
    Check("python", python),
    Check("configs", configs),
    Check("disk", disk),
    Check("warehouse", warehouse),
    Check("vectors", vectors),
    Check("lock", lock),
    Check("embedder", embedder),
    Check("up to date", freshness),
    Check("model", model),
    Check("zenml", zenml),
    Check("browser", browser, required=False),
    Check("git", git, required=False),
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: one list of findings.")
def doctor(as_json: bool) -> None:
    """Check every configured piece, and say how to mend what is wrong."""
    findings = list(examine(CHECKS))
    broken = any(finding.state == State.BROKEN for finding in findings)
    if as_json:
        say_json([finding.model_dump(mode="json") for finding in findings], indent=2)
    else:
        print_findings(findings)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    doctor()
