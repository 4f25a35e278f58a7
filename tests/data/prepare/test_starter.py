"""The property file beside converted data, and the command that a conversion prints."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from recbole_llmtrsr.__main__ import main as run
from recbole_llmtrsr.data.prepare import CONVERTERS
from recbole_llmtrsr.data.prepare.__main__ import main
from recbole_llmtrsr.data.prepare.converters import movielens
from recbole_llmtrsr.data.prepare.starter import write_starter

N_USERS, N_ITEMS, N_EVENTS = 10, 40, 6


def convert(folder: Path, out: str) -> int:
    """Two tables as a shop exports them, converted."""
    events = [f"u{u},i{(3 * u + 7 * t) % N_ITEMS},{1_600_000_000 + t}" for u in range(N_USERS) for t in range(N_EVENTS)]
    items = [f"i{n},Title of {n},Oslo" for n in range(N_ITEMS)]
    (folder / "events.csv").write_text("\n".join(["who,what,when", *events]))
    (folder / "items.csv").write_text("\n".join(["what,title,maker", *items]))
    files = ["--interactions=events.csv", "--items=items.csv", "--user=who", "--item=what", "--time=when"]
    return main(["table", f"--source={folder}", f"--out={out}", *files, "--text=title,maker"])


def read(file: Path) -> dict[str, object]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("out", ["dataset/shop", "my data/a, b"])
def test_the_command_that_is_printed_runs(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert convert(tmp_path, out) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[:4] == ["next:", "python", "-m", "recbole_llmtrsr"]
    name = Path(out).name
    assert command[4:] == ["--model=LLMTRSR", f"--config_files={out}/{name}.yaml"]
    assert run([*command[4:], "--use_gpu=False", "--builtin_hidden_size=16", "--builtin_n_layers=1"]) == 0
    assert f"{name}, test, {N_USERS} targets" in capsys.readouterr().out


def test_a_table_gets_its_columns_and_no_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    convert(tmp_path, "dataset/2019")
    assert read(tmp_path / "dataset" / "2019" / "2019.yaml") == {
        "data_path": "dataset",
        "dataset": "2019",
        "domain": "generic",
        "item_text_fields": ["title", "maker"],
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    }


def test_a_file_that_is_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "shop" / "shop.yaml"
    file.parent.mkdir()
    file.write_text("domain: products\n")
    convert(tmp_path, "shop")
    assert "options: shop/shop.yaml exists and was not changed; delete it" in capsys.readouterr().out
    assert file.read_text() == "domain: products\n"


@pytest.mark.parametrize(
    ("converter", "name", "more", "domain", "fields"),
    [
        ("mind", "small", (), "news", ["category", "subcategory", "title"]),
        ("movielens", "ml", (), "movies", ["title", "genres"]),
        ("movielens", "ml", (movielens.OVERVIEW,), "movies", ["title", "genres", "overview"]),
        ("amazon-reviews", "games", (), "products", ["title", "brand", "description"]),
        ("amazon-m2", "uk", (), "products", None),
    ],
)
def test_a_known_data_set_gets_our_options_under_any_name(
    converter: str, name: str, more: tuple[str, ...], domain: str, fields: list[str] | None, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    header = "\t".join(["item_id:token", "title:token_seq", *more])
    (tmp_path / name / f"{name}.item").write_text(f"{header}\n")
    write_starter(tmp_path / name, converter)
    options = read(tmp_path / name / f"{name}.yaml")
    assert (options["data_path"], options["dataset"], options["domain"]) == (str(tmp_path), name, domain)
    assert fields is None or options["item_text_fields"] == fields
    assert converter in CONVERTERS
