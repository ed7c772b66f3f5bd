"""What is generated is committed as it is generated: `make docs` writes it."""

from pathlib import Path

from protocol.reference.page import as_markdown as protocol_reference
from protocol.reference.tables import as_json as protocol_tables
from server.config.reference import as_markdown as config_reference
from server.config.reference import as_toml
from server.node.commerce_document import as_json as commerce_document
from server.node.metrics_reference import as_markdown as metrics_reference

ROOT = Path(__file__).parents[1]


def committed(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_configuration_file_is_generated_from_its_structs() -> None:
    assert committed("config.toml") == as_toml()


def test_the_configuration_reference_is_generated_from_its_structs() -> None:
    assert committed("docs/config.md") == config_reference()


def test_the_page_of_metrics_is_generated_from_the_catalogue() -> None:
    assert committed("docs/metrics.md") == metrics_reference()


def test_the_protocol_reference_is_generated_from_the_catalogue() -> None:
    assert committed("docs/protocol.md") == protocol_reference()


def test_the_tables_of_the_protocol_are_generated_from_the_catalogue() -> None:
    assert committed("docs/protocol.json") == protocol_tables()


def test_the_document_of_commerce_is_generated_from_its_resources() -> None:
    assert committed("docs/commerce.json") == commerce_document()
