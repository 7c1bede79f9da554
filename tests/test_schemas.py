"""Every verb's document has a published schema."""

import pytest

from pipeline.__main__ import app
from pipeline.verbs.schemas import DOCUMENTS, schema_of
from runtimes.errors import InputError

WITHOUT_DOCUMENT = {"agent", "schema"}


def test_every_verb_has_a_schema():
    verbs = {command.name for command in app.registered_commands} - WITHOUT_DOCUMENT

    assert verbs - DOCUMENTS.keys() == set()


@pytest.mark.parametrize("name", list(DOCUMENTS))
def test_schema_begins_with_its_own_name(name):
    schema = schema_of(name)

    first = next(iter(schema["properties"]))
    assert first == ("name" if name == "recipe" else "schema")
    assert first in schema["required"] or "default" in schema["properties"][first]


def test_schema_of_the_recipe_describes_every_key():
    schema = schema_of("recipe")

    assert all("description" in entry for entry in schema["properties"].values())


def test_unknown_schema_names_the_nearest():
    with pytest.raises(InputError, match="did you mean compress"):
        schema_of("compres")
