"""The model registry on ZenML: whole versions or none, their stages, and weights that are what was registered."""

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT
from tiny_model import make_tiny_model

from llm_engineering.domain.errors import ConfigError, ModelNotFound, StoreCorrupt, StoreUnavailable
from llm_engineering.domain.models import Stage, read_reference
from llm_engineering.infrastructure.registry import ZenMLRegistry
from llm_engineering.infrastructure.zenml.connection import open_zenml

REGISTRY = ZenMLRegistry()  # of the tests' own ZenML; each test has models of its own name


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(tiny, tmp_path):
    """model("a") makes a folder with a model whose weights are its own."""

    def make(name: str = "model") -> Path:
        folder = Path(shutil.copytree(tiny, tmp_path / name))
        (folder / "note.txt").write_text(f"the weights of {name}")
        return folder

    return make


@pytest.fixture
def name(request):
    return request.node.name.removeprefix("test_").partition("[")[0][:60]


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def shelf(name: str) -> Path:
    return Path(open_zenml().active_stack.artifact_store.path) / "models" / name


def test_registered_weights_are_byte_equal(model, name):
    folder = model()
    (folder / "more").mkdir()
    (folder / "more" / "vocabulary.txt").write_text("words")
    done = REGISTRY.register(name, folder, facts={"loss": 0.5, "epochs": 3, "dataset": "ann@2"})
    assert contents(done.folder) == contents(folder)
    assert done.folder != folder
    assert (done.version, done.stage) == (1, None)
    assert done.facts == {"loss": 0.5, "epochs": 3.0, "dataset": "ann@2"}
    assert done.size == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert REGISTRY.versions(name) == [done]
    assert REGISTRY.find(name, 1) == done


def test_links_to_files_become_files_as_a_hubs_cache_has_them(model, tmp_path, name):
    folder, linked = model(), tmp_path / "snapshot"
    linked.mkdir()
    for file in folder.iterdir():
        (linked / file.name).symlink_to(file)
    done = REGISTRY.register(name, linked)
    shutil.rmtree(folder)
    assert not any(file.is_symlink() for file in done.folder.iterdir())
    assert REGISTRY.find(name, 1) == done


def test_the_same_weights_registered_twice_are_one_version(model, name):
    first = REGISTRY.register(name, model("one"), facts={"loss": 0.5})
    second = REGISTRY.register(name, model("two"), facts={"loss": 0.5})
    assert (first.version, second.version) == (1, 2)
    assert REGISTRY.register(name, first.folder, facts={"loss": 0.5}) == first
    assert REGISTRY.register(name, second.folder.parent / second.folder.name, facts={"loss": 0.5}) == second
    assert REGISTRY.register(name, copied(second.folder, model), facts={"loss": 0.4}).version == 3
    assert [one.version for one in REGISTRY.versions(name)] == [3, 2, 1]
    assert len([path for path in shelf(name).iterdir() if path.is_dir()]) == 3


def copied(folder: Path, model) -> Path:
    there = model("copied")
    shutil.rmtree(there)
    return Path(shutil.copytree(folder, there))


def test_weights_that_lie_in_the_store_already_are_registered_in_place(model, name):
    place = shelf("trained") / name
    shutil.copytree(model(), place)
    before = contents(place)
    done = REGISTRY.register(name, place)
    assert done.folder == place.resolve()
    assert contents(place) == before
    assert not shelf(name).exists() or not any(path.is_dir() for path in shelf(name).iterdir())
    with pytest.raises(ConfigError, match=f"already used by artifact {name}-weights .*register a copy"):
        REGISTRY.register(name, place, facts={"loss": 1.0})
    assert REGISTRY.find(name, 1) == done


def test_a_promoted_version_is_found_and_the_one_before_it_is_archived(model, name):
    first, second = REGISTRY.register(name, model("one")), REGISTRY.register(name, model("two"))
    assert REGISTRY.promote(name, 1).stage is Stage.PRODUCTION
    assert REGISTRY.find(name).folder == first.folder
    REGISTRY.promote(name, 2, Stage.STAGING)
    assert REGISTRY.find(name, Stage.STAGING).folder == second.folder
    assert REGISTRY.find(name).version == 1
    REGISTRY.promote(name, 2)
    assert [(one.version, one.stage) for one in REGISTRY.versions(name)] == [(2, "production"), (1, "archived")]
    with pytest.raises(ModelNotFound, match=r"no version of .* in staging; there is 2 \(production\), 1 \(archived\)"):
        REGISTRY.find(name, Stage.STAGING)
    REGISTRY.promote(name, 1)
    assert REGISTRY.find(name).version == 1
    REGISTRY.promote(name, 1, Stage.ARCHIVED)
    REGISTRY.promote(name, 2, Stage.ARCHIVED)
    assert {one.stage for one in REGISTRY.versions(name)} == {Stage.ARCHIVED}


def test_what_is_not_there_is_told_with_what_is_and_what_to_run(model, name):
    with pytest.raises(ModelNotFound, match=f"has no model {name} .*poe models register {name} FOLDER"):
        REGISTRY.find(name)
    REGISTRY.register(name, model())
    with pytest.raises(ModelNotFound, match=f"in production; there is 1: `poe models promote {name} VERSION`"):
        REGISTRY.find(name)
    with pytest.raises(ModelNotFound, match=f"no version 7 of {name}; there is 1$"):
        REGISTRY.find(name, 7)
    with pytest.raises(ModelNotFound, match="no version 7"):
        REGISTRY.promote(name, 7)
    with pytest.raises(ModelNotFound, match=f"has no model {name}2 .*it has .*{name}"):
        REGISTRY.promote(f"{name}2", 1)
    assert REGISTRY.versions(f"{name}2") == []
    assert [one.version for one in REGISTRY.versions(name)] == [1]


@pytest.mark.parametrize("spoil", ["gone", "config", "short", "more"])
def test_damaged_weights_are_told_never_served_and_never_promoted(model, name, spoil):
    name = f"damaged-{spoil}"
    folder = model()
    done = REGISTRY.register(name, folder)
    REGISTRY.promote(name, 1)
    [weights] = done.folder.glob("*.safetensors")
    match spoil:
        case "gone":
            shutil.rmtree(done.folder)
        case "config":
            (done.folder / "config.json").unlink()
        case "short":
            os.truncate(weights, 10)
        case "more":
            (done.folder / "model-2.safetensors").write_bytes(b"more")
    with pytest.raises(StoreCorrupt, match=rf"weights of {name}@1 .*(is gone|no config.json|bytes, not the).*go back"):
        REGISTRY.find(name)
    with pytest.raises(StoreCorrupt):
        REGISTRY.promote(name, 1)
    assert [one.version for one in REGISTRY.versions(name)] == [1]
    assert REGISTRY.promote(name, 1, Stage.ARCHIVED).stage is Stage.ARCHIVED
    assert REGISTRY.register(name, folder).version == 2  # and not the damaged one, although its hash is the same
    assert REGISTRY.promote(name, 2) == REGISTRY.find(name)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "is no folder"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"), "without its base model"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff{"), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), "no JSON object"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
        (lambda folder: (folder / "merges.txt").symlink_to("nowhere"), "neither a file nor a folder"),
        (lambda folder: os.mkfifo(folder / "pipe"), "neither a file nor a folder"),
    ],
)
def test_a_folder_that_holds_no_whole_model_is_refused_and_leaves_nothing(model, name, spoil, message):
    folder = model()
    spoil(folder)
    with pytest.raises(ConfigError, match=message):
        REGISTRY.register(name, folder)
    assert REGISTRY.versions(name) == []
    assert not shelf(name).exists() or not list(shelf(name).iterdir())


@pytest.mark.parametrize("bad", ["", " ", "a b", "a/b", "../a", "-a", ".a", "a@1", "a" * 65, "é", "a\n"])
def test_a_name_that_cannot_be_one_is_refused_before_anything_is_asked(model, bad):
    for ask in (
        lambda: REGISTRY.find(bad),
        lambda: REGISTRY.versions(bad),
        lambda: REGISTRY.promote(bad, 1),
        lambda: REGISTRY.register(bad, model(str(bad.__hash__()))),
    ):
        with pytest.raises(ConfigError, match="cannot be the name of a model"):
            ask()


@pytest.mark.parametrize(
    "facts", [{"": 1.0}, {"k" * 101: 1.0}, {"k": float("nan")}, {"k": float("inf")}, {"k": ["x"]}, {"k": "v" * 2001}]
)
def test_facts_that_cannot_be_kept_are_refused(model, name, facts):
    with pytest.raises(ConfigError, match="short texts and finite numbers"):
        REGISTRY.register(name, model(), facts=facts)
    assert REGISTRY.versions(name) == []


@pytest.mark.parametrize(
    ("text", "which"),
    [("ann", Stage.PRODUCTION), ("ann@12", 12), ("ann@staging", Stage.STAGING), ("ann@production", Stage.PRODUCTION)],
)
def test_a_reference_is_a_name_and_what_is_meant_of_it(text, which):
    assert read_reference(text) == ("ann", which)
    assert read_reference(str(read_reference(text))) == ("ann", which)


@pytest.mark.parametrize("text", ["ann@", "ann@0", "ann@-1", "ann@latest", "ann@1@2", "ann@1.5", "ann@²"])
def test_a_reference_to_no_version_is_refused_and_says_how_one_is_written(text):
    with pytest.raises(ConfigError, match="ann@2 or ann@staging"):
        read_reference(text)


def test_registrations_side_by_side_are_each_whole(model, name):
    folders = [model(f"model-{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda folder: REGISTRY.register(name, folder), folders))
    assert sorted(one.version for one in done) == [1, 2, 3, 4]
    for folder, one in zip(folders, done, strict=True):
        assert contents(REGISTRY.find(name, one.version).folder) == contents(folder)


def test_what_others_keep_in_zenml_is_left_alone(model, name):
    from zenml.models import ModelVersionArtifactRequest

    zenml, place = open_zenml(), shelf("others") / name
    shutil.copytree(model(), place)
    zenml.create_model(name)
    theirs = zenml.create_model_version(name)
    weights = zenml_artifact(place, f"{name}-weights")
    zenml.zen_store.create_model_version_artifact_link(
        ModelVersionArtifactRequest(model_version=theirs.id, artifact_version=weights.id)
    )
    assert REGISTRY.versions(name) == []
    assert name not in {one.name for one in REGISTRY.versions()}
    assert REGISTRY.register(name, model("ours")).version == 2
    assert [one.version for one in REGISTRY.versions(name)] == [2]
    with pytest.raises(ModelNotFound):
        REGISTRY.promote(name, 1)


# --- cut short ---------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_nothing_of_a_registration(model, name):
    folder = model()
    with (folder / "model-2.safetensors").open("wb") as big:
        big.truncate(96 << 20)
    REGISTRY.versions(name)  # ZenML's database is there
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (48 << 20, before[1]))
    try:
        with pytest.raises(StoreUnavailable, match="File too large"):
            REGISTRY.register(name, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert REGISTRY.versions(name) == []
    assert list(shelf(name).iterdir()) == []
    assert REGISTRY.register(name, folder).version == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from llm_engineering.infrastructure.registry import ZenMLRegistry
sys.addaudithook(lambda event, given: event == "os.rename" and str(given[0]).endswith(".part") and
                 os.kill(os.getpid(), signal.SIGKILL))
ZenMLRegistry().register(sys.argv[1], Path(sys.argv[2]))
"""


def test_a_registration_killed_half_way_is_never_seen_and_swept_by_the_next(model, name):
    folder = model()
    done = subprocess.run([sys.executable, "-c", KILLED, name, str(folder)], cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert [path.suffix for path in shelf(name).iterdir()] == [".part"]
    assert REGISTRY.versions(name) == []
    assert name not in {one.name for one in REGISTRY.versions()}
    with pytest.raises(ModelNotFound):
        REGISTRY.find(name, 1)
    with pytest.raises(ModelNotFound):
        REGISTRY.promote(name, 1)
    after = REGISTRY.register(name, folder)
    assert [path.resolve() for path in shelf(name).iterdir()] == [after.folder]
    assert REGISTRY.versions(name) == [after]


def test_trouble_while_it_is_recorded_undoes_what_was_recorded(model, name):
    """ZenML knows the folder as something else, which shows only when the version is made already."""
    place = shelf("trained") / name
    shutil.copytree(model(), place)
    zenml = open_zenml()
    zenml_artifact(place, f"{name}-other")
    with pytest.raises(ConfigError, match=f"already used by artifact {name}-other .*register a copy of the folder"):
        REGISTRY.register(name, place)
    assert REGISTRY.versions(name) == []
    assert zenml.list_model_versions(model_name_or_id=name).items == []
    assert (place / "config.json").is_file()


def zenml_artifact(place: Path, name: str):
    from zenml import register_artifact

    return register_artifact(str(place), name=name)
