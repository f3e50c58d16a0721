"""docs/fidelity.md and the recipes must say the same."""

import dataclasses
import re
from pathlib import Path

from chase_fast.recipes import SEARCH, TRAIN, SearchConfig, TrainConfig, paper
from chase_fast.track.settings import TrackSettings

PAGE = (Path(__file__).parents[1] / "docs" / "fidelity.md").read_text(encoding="utf-8")
RECIPES = PAGE[PAGE.index("## The recipes") : PAGE.index("## Training")]
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", RECIPES, re.MULTILINE))


def written(name: str, value: object) -> str:
    """`field=value` as it stands in the table, tuples with spaces."""
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{name}={text}`"


def test_every_recipe_states_exactly_what_it_changes():
    reference = dataclasses.asdict(paper()) | {"recipe": None}
    assert set(ROWS) == set(SEARCH)
    for recipe, make in SEARCH.items():
        changed = {k: v for k, v in dataclasses.asdict(make()).items() if k != "recipe" and v != reference[k]}
        assert set(re.findall(r"`\w+=[^`]*`", ROWS[recipe])) == {written(*item) for item in changed.items()}


def test_every_named_value_of_the_tables_is_that_of_paper():
    tables = PAGE[: PAGE.index("## The recipes")]
    values = re.findall(r"`(\w+)=([^`]+)`", tables)
    assert len(values) > 20
    for name, text in values:
        value = getattr(paper(), name)
        same = float(text) == value if isinstance(value, float) else text == str(value)
        other = ("method", "darts1"), ("method", "fair"), ("flavour", "darts")
        assert same or (name, text) in other, (name, text)


def test_no_flag_is_misspelt():
    configurations = SearchConfig, TrainConfig, TrackSettings
    fields = {f.name for configuration in configurations for f in dataclasses.fields(configuration)}
    for name in re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)(?:=[^`]*)?`", PAGE):
        assert name in fields | set(SEARCH) | set(TRAIN), name
