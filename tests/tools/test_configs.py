import pytest
from conftest import ROOT

from llm_engineering.domain.errors import ConfigError
from llm_engineering.features.config import EndToEndConfig, EtlConfig, FeatureConfig
from llm_engineering.operate.configs import load_config
from llm_engineering.operate.pipelines import PIPELINES


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda one: one.name)
def test_the_configs_of_the_project_are_right(pipeline, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert isinstance(load_config(pipeline.name, pipeline.config), pipeline.config)


def test_an_empty_file_means_every_default_where_all_have_one(config_file):
    assert load_config("feature_engineering", FeatureConfig, config_file("# all defaults\n")) == FeatureConfig()


def test_every_way_of_writing_a_link(config_file):
    path = config_file(
        {
            "authors": [
                {
                    "name": "Ann",
                    "links": [
                        "https://ann.example/one",
                        {"medium": "@ann"},
                        {"local_files": {"address": "notes", "limit": 3}},
                    ],
                }
            ]
        }
    )
    plain, handle, folder = load_config("digital_data_etl", EtlConfig, path).authors[0].links
    assert (plain.source, plain.address) == (None, "https://ann.example/one")
    assert (handle.source, handle.address) == ("medium", "@ann")
    assert (folder.address, folder.options) == ("notes", {"limit": 3})


def test_a_number_that_yaml_reads_as_text_is_still_that_number(config_file):
    """PyYAML reads 3e-1 as a string, and 3.0e-1 as a number."""
    head = "authors: [{name: Ann, links: [https://a.example]}]\n"
    for written in ("3e-1", "3.0e-1", "0.3"):
        assert (
            load_config(
                "digital_data_etl", EtlConfig, config_file(f"{head}min_success_rate: {written}\n")
            ).min_success_rate
            == 0.3
        )


def test_a_config_survives_being_a_pipelines_parameter(config_file):
    path = config_file({"etl": {"authors": [{"name": "Ann", "links": [{"medium": {"address": "@a", "limit": 2}}]}]}})
    config = load_config("end_to_end_data", EndToEndConfig, path)
    assert EndToEndConfig.model_validate_json(config.model_dump_json()) == config
    assert isinstance(config.etl, EtlConfig)


def test_several_faults_are_said_at_once(config_file):
    path = config_file("authors: []\nfetch: {delay: -1, nonsense: 2}\n")
    with pytest.raises(ConfigError) as error:
        load_config("digital_data_etl", EtlConfig, path)
    assert len(str(error.value).splitlines()) == 3
