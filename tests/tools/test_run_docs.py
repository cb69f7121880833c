"""What a person can set is written down, and with the value it has."""

from collections.abc import Iterator

import pytest
from conftest import ROOT
from pydantic import BaseModel

from llm_engineering.features.config import EtlConfig, FeatureConfig
from tools.doctor import CHECKS
from tools.run import run


def keys(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, object]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{above}{name}.")
        else:
            yield f"{above}{name}", field.default


@pytest.mark.parametrize("model", [EtlConfig, FeatureConfig])
def test_every_key_of_a_config_is_in_docs_run_with_its_default(model):
    page = (ROOT / "docs" / "run.md").read_text()
    for key, default in keys(model):
        row = next((line for line in page.splitlines() if line.startswith("|") and f"`{key}`" in line), "")
        assert row, key
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert f"{default:g}" in row.replace(",", " ").split() or str(default) in row, (key, default)


def test_every_option_of_a_run_and_every_check_of_the_doctor_is_explained():
    options = {option.opts[0] for command in run.commands.values() for option in command.params}
    runs, doctors = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("run", "doctor"))
    assert [option for option in options if option not in runs] == []
    assert [check.piece for check in CHECKS if f"| {check.piece} |" not in doctors] == []
