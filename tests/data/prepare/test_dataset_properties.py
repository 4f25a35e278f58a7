"""The property files of converted data sets name columns that the converters write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import recbole

from recbole_llmtrsr.config.sources import properties_dir
from recbole_llmtrsr.data.prepare import CONVERTERS
from recbole_llmtrsr.data.prepare.converters import amazon_m2, amazon_reviews, mind, movielens

COLUMNS = {
    "mind": mind.COLUMNS,
    "amazon-m2": amazon_m2.COLUMNS,
    "amazon-reviews": amazon_reviews.COLUMNS,
    "amazon-industrial": amazon_reviews.COLUMNS,
    "movielens": movielens.COLUMNS,
    "movielens-1m": movielens.COLUMNS,
    "movielens-25m": movielens.COLUMNS,
    "movielens-tmdb": {**movielens.COLUMNS, "item": (*movielens.COLUMNS["item"], movielens.OVERVIEW)},
}


def names(header: tuple[str, ...]) -> set[str]:
    return {column.split(":")[0] for column in header}


def test_every_property_file_of_a_converted_data_set_is_tested_here() -> None:
    files = {path.stem for path in (properties_dir() / "dataset").glob("*.yaml")}
    assert files - {"ml-100k"} == set(COLUMNS)


def test_the_name_that_a_converter_s_help_suggests_has_a_property_file() -> None:
    assert set(CONVERTERS) - {"table"} <= set(COLUMNS)  # the columns of a table are the user's


def test_the_property_file_of_ml_100k_names_columns_that_recbole_s_files_have(make_config: Callable[..., Any]) -> None:
    config = make_config(dataset="ml-100k")
    folder = Path(recbole.__file__).parent / "dataset_example" / "ml-100k"
    with (folder / "ml-100k.item").open(encoding="utf-8") as file:
        header = names(tuple(next(file).split()))
    assert config.settings.evaluation.candidate_category == "class"
    assert {"class", *config.settings.data.item_text_fields} <= header


@pytest.mark.parametrize("name", COLUMNS)
def test_a_property_file_names_columns_that_its_converter_writes(
    name: str, tmp_path: Path, make_config: Callable[..., Any]
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.inter").write_text("")
    config = make_config(dataset=name, data_path=str(tmp_path))
    assert config.settings.prompt.domain in ("news", "products", "movies")
    assert set(config.settings.data.item_text_fields) <= names(COLUMNS[name]["item"])
    assert config.settings.evaluation.candidate_category in names(COLUMNS[name]["item"])
    assert set(config["load_col"]["inter"]) <= names(COLUMNS[name]["inter"])
    assert config["TIME_FIELD"] in config["load_col"]["inter"]
