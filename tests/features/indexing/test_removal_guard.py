"""An index is not emptied by accident: with the warehouse gone, another one, or most of it deleted."""

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
from feature_build import FeatureBuild, document
from vector_stores import QDRANT, opened_store

from llm_engineering.domain.documents import WarehouseRef
from llm_engineering.domain.errors import CleaningError, WouldEmptyIndex
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.removal_guard import HANDFUL
from llm_engineering.features.sources import SOURCES
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite
from llm_engineering.infrastructure.warehouse.transfer import export_warehouse, import_warehouse

MANY = 2 * HANDFUL + 2


@pytest.fixture(params=["edge", *QDRANT])
def features(request, tmp_path: Path) -> Generator[FeatureBuild]:
    """A dozen indexed documents."""
    features = FeatureBuild(tmp_path / "one")
    with opened_store(request.param, tmp_path) as store:
        features.vectors = store
        features.put(**bodies(MANY))
        features.run()
        yield features
    features.close()


def bodies(number: int, *, of: str = "page") -> dict[str, str]:
    return {f"{of}{i}": f"{of} {i} has something of its own to say." for i in range(number)}


def ids(number: int) -> list[str]:
    return [document(f"page{i}", "x").id for i in range(number)]


def go_home(features: FeatureBuild, name: str) -> None:
    features.close()
    features.open(features.folder / name)


def filled_from(features: FeatureBuild) -> WarehouseRef | None:
    info = features.info()
    assert info
    return info.warehouse


def is_refused(features: FeatureBuild, words: str, **how) -> None:
    before, info = features.chunks(), features.info()
    with pytest.raises(WouldEmptyIndex, match=words) as caught:
        features.run(**how)
    assert "\n" not in str(caught.value)  # a run shows the first line
    assert "--allow-empty" in str(caught.value)
    assert "Nothing was changed" in str(caught.value)
    assert (features.chunks(), features.info()) == (before, info)


@pytest.mark.parametrize("how", [{}, {"rebuild": True}], ids=["incremental", "rebuild"])
def test_an_empty_warehouse_in_the_place_of_the_real_one_is_refused(features, how):
    go_home(features, "gone")
    lost = rf"filled from the warehouse .*one.warehouse\.db \(\w+\), and this is .*gone.* holds 0 .* lacks {MANY} of"
    is_refused(features, lost, **how)
    report = features.run(allow_empty=True, **how)
    assert (report.chunks_total, features.chunks()) == (0, [])


@pytest.mark.parametrize("number", [1, MANY])
def test_another_home_s_warehouse_is_refused_however_little_it_holds_and_once_allowed_it_is_the_index_s_own(
    features, number
):
    go_home(features, "other")
    features.put(**bodies(number, of="other"))
    is_refused(features, rf"holds {number} documents and lacks {MANY} of the {MANY} ")
    assert features.run(allow_empty=True).documents_removed == MANY
    assert len(features.chunks()) == number
    features.put(**bodies(number + 1, of="other"))
    assert features.run().documents_indexed == 1


def test_another_warehouse_with_the_same_documents_is_another_warehouse(features):
    go_home(features, "twin")
    features.put(**bodies(MANY))
    is_refused(features, f"holds {MANY} documents and lacks 0 of the {MANY}")


def test_an_import_into_a_new_warehouse_goes_on_as_the_exported_one_and_embeds_nothing_again(features, tmp_path):
    export_warehouse(features.warehouse, features.ledger, tmp_path / "x.jsonl")
    go_home(features, "restored")
    import_warehouse(features.warehouse, features.ledger, tmp_path / "x.jsonl")
    report = features.run()
    assert (report.rescanned, report.documents_unchanged, report.chunks_embedded) == (True, MANY, 0)


def test_an_import_into_a_warehouse_that_held_something_does_not_make_it_the_exported_one(features, tmp_path):
    export_warehouse(features.warehouse, features.ledger, tmp_path / "x.jsonl")
    go_home(features, "used")
    features.put(other="another home's")
    import_warehouse(features.warehouse, features.ledger, tmp_path / "x.jsonl")
    is_refused(features, "filled from the warehouse")


def test_deleting_most_of_what_is_indexed_is_refused_until_it_is_allowed(features):
    features.warehouse.delete(ids(HANDFUL + 2))
    is_refused(features, f"{HANDFUL + 2} of the {MANY} indexed documents would be removed")
    is_refused(features, f"{HANDFUL + 2} of the {MANY} indexed documents would be removed", rebuild=True)
    assert features.run(allow_empty=True).documents_removed == HANDFUL + 2


@pytest.mark.parametrize("number", [1, HANDFUL, MANY // 2])
def test_deleting_less_is_followed(features, number):
    features.warehouse.delete(ids(number))
    assert features.run().documents_removed == number


def test_the_last_few_documents_may_be_deleted(tmp_path):
    features = FeatureBuild(tmp_path)
    features.put(**bodies(2))
    features.run()
    features.warehouse.delete(ids(2))
    assert features.run().documents_removed == 2
    features.close()


def test_a_rebuild_with_everything_deleted_is_refused_however_little_it_was(tmp_path):
    features = FeatureBuild(tmp_path)
    features.put(**bodies(2))
    features.run()
    features.warehouse.delete(ids(2))
    is_refused(features, "2 of the 2 indexed documents would be removed", rebuild=True)
    features.close()


def test_an_author_who_is_forgotten_is_no_accident(features):
    features.put(**bodies(1, of="other"))
    features.run()
    features.vectors.erase(document("x", "x").author.id)
    features.warehouse.delete(ids(MANY))
    assert features.run().documents_removed == 0


def test_a_rebuild_in_which_most_fails_leaves_the_live_index(features):
    def clean(body: str, media_type: str):
        raise CleaningError("the library changed")

    before = features.chunks()
    broken = tuple(replace(source, clean=clean) for source in SOURCES)
    with pytest.raises(WouldEmptyIndex, match=rf"{MANY} of the {MANY} indexed documents could not be indexed again"):
        features.run(rebuild=True, sources=broken)
    assert features.chunks() == before


def test_an_index_of_before_warehouses_were_recorded_is_read_and_records_its_own(tmp_path):
    features = FeatureBuild(tmp_path)
    features.put(**bodies(MANY))
    version = features.run().index_version
    manifest = tmp_path / "vectors" / version / "manifest.json"
    older = json.loads(manifest.read_text())
    assert older.pop("warehouse")["id"] == features.warehouse.ref.id
    manifest.write_text(json.dumps(older))
    assert len(features.chunks()) == MANY
    assert filled_from(features) is None
    assert features.run().index_version == version
    assert filled_from(features) == features.warehouse.ref
    features.close()


def test_an_index_of_before_with_the_warehouse_gone_is_not_emptied_either(tmp_path):
    features = FeatureBuild(tmp_path)
    features.put(**bodies(2))
    version = features.run().index_version
    manifest = tmp_path / "vectors" / version / "manifest.json"
    manifest.write_text(json.dumps({k: v for k, v in json.loads(manifest.read_text()).items() if k != "warehouse"}))
    go_home(features, "gone")
    is_refused(features, "2 of the 2 indexed documents would be removed")
    features.close()


def test_a_warehouse_keeps_its_id_and_no_two_have_the_same(tmp_path):
    first, _ = open_sqlite(tmp_path / "a.db")
    again, _ = open_sqlite(tmp_path / "a.db")
    other, _ = open_sqlite(tmp_path / "b.db")
    assert first.ref == again.ref
    assert first.ref.id != other.ref.id
    for one in (first, again, other):
        one.close()


def test_what_was_read_before_its_author_was_forgotten_is_not_published(features):
    """The run has read, failed at and stored some of it when `poe forget` comes."""
    features.put(**bodies(3, of="new"), **{"unreadable": ""})
    info = features.info()
    erased = []

    def forget_once_something_is_stored(report):
        if report.documents_indexed and not erased:
            ada = DataSubject(name="Ada")
            erased.append(features.ledger.erase(ada).number + features.warehouse.erase(ada).number)

    features.run(FeatureConfig(buffer_chunks=1), on_progress=forget_once_something_is_stored, allow_empty=True)
    assert erased == [MANY + 4]
    assert features.chunks() == []
    assert list(features.ledger.document_failures()) == []
    assert features.info() != info


def test_an_index_that_is_damaged_is_rebuilt_all_the_same(tmp_path):
    features = FeatureBuild(tmp_path)
    features.put(**bodies(MANY))
    version = features.run().index_version
    for path in (tmp_path / "vectors" / version / "shard" / "segments").rglob("*.mmap"):
        path.write_bytes(b"")
    report = features.run(rebuild=True)
    assert report.documents_indexed == MANY
    features.close()
