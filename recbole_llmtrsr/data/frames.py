"""A data set made of two DataFrames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path

import pandas as pd
import yaml

from recbole_llmtrsr.config.settings import all_options
from recbole_llmtrsr.config.sources import properties_dir, recbole_properties
from recbole_llmtrsr.data.prepare.converters.table import convert_table, header_names
from recbole_llmtrsr.data.prepare.report import MAX_LOST, Report
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.atomic_write import atomic_write

PROPERTIES = "properties.yaml"


@dataclass(frozen=True)
class Dataset:
    """Atomic files of one data set, with the options that read them.

    Pass it in the place of a data set's name to ``compare``, ``run_recbole_llmtrsr`` and ``objective_function``.

    Attributes:
        name: of the data set and of its folder.
        folder: that holds the data set's folder; RecBole's ``data_path``.
        report: counts of users, items and events, and every malformed row; shown by ``print(dataset)``.

    Examples:
        >>> dataset = Dataset.from_frames(clicks, products, name="shop", time="at", text=["title"])  # doctest: +SKIP
        >>> results, folder = compare(["LLMTRSR", "SASRec"], dataset)  # doctest: +SKIP
    """

    name: str
    folder: Path
    report: Report = field(repr=False, compare=False)

    @property
    def properties(self) -> Path:
        """The property file, with which a command line reads the data set: ``--config_files=<properties>``."""
        return self.folder / self.name / PROPERTIES

    @classmethod
    def from_frames(
        cls,
        interactions: pd.DataFrame,
        items: pd.DataFrame,
        name: str,
        *,
        text: str | Sequence[str],
        folder: str | Path = "dataset",
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = "timestamp",
        rating: str | None = None,
        items_id: str | None = None,
        domain: str = "generic",
        max_lost: float = MAX_LOST,
    ) -> Dataset:
        """Write two DataFrames as a data set, which replaces an earlier one of this name.

        Rows without a user, an item or a time are left out and counted, as are repeated rows of one item; a warning
        names them. Rows are numbered from 1.

        Args:
            interactions: a row for every event.
            items: a row for every item.
            name: of the data set, which is also the name of its folder.
            text: columns of ``items`` that describe an item, in the order in which prompts show them.
            folder: that gets the data set's folder.
            user: column of ``interactions``.
            item: column of ``interactions``, and of ``items`` unless ``items_id`` names another.
            time: column of ``interactions``: numbers, datetimes, or texts of ISO 8601, which become seconds since 1970.
                None takes the order of the rows.
            rating: column of ``interactions`` with a number to keep.
            items_id: column of ``items`` that holds the items' ids.
            domain: wording of the prompts: generic, news, products or movies.
            max_lost: greatest share of rows that may be malformed and left out.

        Returns:
            the data set.

        Raises:
            UserError: a folder of this name that holds other files, a missing column, a frame without rows, too many
                malformed rows, items without a text, or events of unknown items alone.
        """
        text = [text] if isinstance(text, str) else list(text)
        _check(interactions, items, name, domain, max_lost)
        out = Path(folder) / name
        _check_place(out)
        report = convert_table(
            Path(),
            out,
            interactions=interactions,
            items=items,
            user=user,
            item=item,
            text=text,
            time=time,
            rating=rating,
            items_id=items_id,
            max_lost=max_lost,
        )
        made = cls(name, Path(folder), report)
        columns = ["user_id", "item_id", *(["rating"] if rating else []), "timestamp"]
        texts = header_names(text)
        options = {
            "dataset": name,
            "data_path": str(folder),
            "domain": domain,
            "item_text_fields": texts,
            "load_col": {"inter": columns},
        }
        with atomic_write(made.properties) as file:
            file.write(yaml.safe_dump(options, sort_keys=False, allow_unicode=True).encode())
        empty = {column: int(items[column].isna().sum()) for column in text if column in items.columns}
        lost = [f"{column}: missing in {n:,} of {len(items):,} items" for column, n in empty.items() if n]
        for fault in (*report.fault_text(), *lost):
            getLogger().warning(f"data set '{name}': {fault}")
        return made

    def __str__(self) -> str:
        return self.report.text()


def _check_place(out: Path) -> None:
    """Refuse a folder that holds more than a data set made of DataFrames."""
    own = {PROPERTIES, f"{out.name}.inter", f"{out.name}.item", f"{out.name}.malformed.tsv"}
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if there and (PROPERTIES not in there or set(there) - own):
        raise UserError(
            f"{out} holds {', '.join(there)}, which Dataset.from_frames did not make: choose another name or folder, or"
            " remove them"
        )


def _check(interactions: pd.DataFrame, items: pd.DataFrame, name: str, domain: str, max_lost: float) -> None:
    """Refuse arguments of another kind, and names that stand for other data sets."""
    faults = [
        f"{argument} must be a pandas DataFrame, got a {type(given).__name__}"
        for argument, given in (("interactions", interactions), ("items", items))
        if not isinstance(given, pd.DataFrame)
    ]
    if not name or Path(name).name != name or name.startswith("."):
        faults.append(
            f"name must be the name of a folder, such as 'shop', got {name!r}: name the one above it in folder"
        )
    elif any((folder / "dataset" / f"{name}.yaml").is_file() for folder in (recbole_properties(), properties_dir())):
        faults.append(f"the name '{name}' has options of its own in RecBole or in this package: choose another name")
    domains = next(spec.metadata["choices"] for _, spec, _ in all_options() if spec.name == "domain")
    if domain not in domains:
        faults.append(f"domain must be one of {', '.join(domains)}, got {domain!r}")
    if not 0 <= max_lost <= 1:
        faults.append(f"max_lost must be a share from 0 to 1, such as 0.1 for one row in ten, got {max_lost!r}")
    if faults:
        raise UserError(faults)
