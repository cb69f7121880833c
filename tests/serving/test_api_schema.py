"""schemathesis reads the OpenAPI document and asks whatever it can think of."""

import pytest
import schemathesis
from api_service import ScriptedService, serving
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from llm_engineering.serving.api.app import create_app

ROUTES = (
    ("POST", "/search"), ("POST", "/rag"), ("POST", "/feedback"), ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"), ("GET", "/v1/models/{model}"), ("GET", "/health"), ("GET", "/ready"), ("GET", "/metrics"),
)  # fmt: skip
# what a document cannot say: the last message is the user's, the model is one of those there are
UNSAID = [positive_data_acceptance]


@pytest.fixture(scope="module")
def document():
    with serving(create_app(ScriptedService())) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


def test_every_route_is_tried(document):
    assert {(one.ok().method.upper(), one.ok().path) for one in document.get_all_operations()} == set(ROUTES)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_answer_is_as_the_document_says_and_none_is_a_server_error(document, method, path, mode):
    operation = document[path][method]
    if mode is GenerationMode.NEGATIVE and not operation.body:
        return  # there is nothing to get wrong

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=30, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def tried(case) -> None:
        case.call_and_validate(excluded_checks=UNSAID)

    tried()
