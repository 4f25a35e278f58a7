from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.loading.fingerprint import SAMPLE_BYTES, SAMPLES, fingerprint, model_fingerprint

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "generation_config.json": b'{"eos_token_id": 2}',
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b"{}",
    "tokenizer.model": b"\x0a\x0b",
    "merges.txt": b"a b",
    "chat_template.jinja": b"{{ messages }}",
    "additional_chat_templates/tools.jinja": b"{{ tools }}",
    "modeling_own.py": b"pass",
    "model-1.safetensors": bytes(range(256)) * 8,
    "model-2.safetensors": bytes(range(256)) * 16,
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_the_same_content_gives_the_same_fingerprint_wherever_and_whenever_it_was_written(tmp_path: Path) -> None:
    one = write(tmp_path / "one", FILES)
    two = write(tmp_path / "elsewhere" / "two", dict(reversed(FILES.items())))
    os.utime(two / "model-1.safetensors", (1, 1))
    linked = tmp_path / "linked"
    (linked / "additional_chat_templates").mkdir(parents=True)
    for name in FILES:
        (linked / name).symlink_to(one / name)
    assert fingerprint(one) == fingerprint(two) == fingerprint(linked)
    assert len(fingerprint(one)) == 32


@pytest.mark.parametrize("name", FILES)
def test_a_change_of_any_file_changes_it(tmp_path: Path, name: str) -> None:
    before = fingerprint(write(tmp_path, FILES))
    content = FILES[name]
    changed = write(tmp_path, {name: content[:-1] + bytes([content[-1] ^ 1])})
    assert fingerprint(changed) != before
    assert fingerprint(write(tmp_path, {name: content})) == before
    (tmp_path / name).unlink()
    assert fingerprint(tmp_path) != before


def test_files_that_change_no_answer_do_not_count(tmp_path: Path) -> None:
    before = fingerprint(write(tmp_path, FILES))
    write(tmp_path, {"README.md": b"x", ".gitattributes": b"x", "checkpoint-1/model.safetensors": b"x"})
    assert fingerprint(tmp_path) == before


def test_content_does_not_wander_from_file_to_file_unseen(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"a.safetensors": b"xy", "b.safetensors": b"z"})
    two = write(tmp_path / "two", {"a.safetensors": b"x", "b.safetensors": b"yz"})
    assert fingerprint(one) != fingerprint(two)


SIZE = 4 * SAMPLES * SAMPLE_BYTES  # of which a quarter is read


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.__setitem__(0, 1),
        lambda weights: weights.__setitem__(SIZE - 1, 1),
        lambda weights: weights.__setitem__(slice(SIZE // 2, SIZE // 2 + 5 * SAMPLE_BYTES), b"\1" * 5 * SAMPLE_BYTES),
        lambda weights: weights.append(0),
        lambda weights: weights.pop(),
    ],
    ids=["the first byte", "the last byte", "one layer", "a longer file", "a shorter file"],
)
def test_a_fine_tuned_copy_of_a_large_file_differs(tmp_path: Path, change: Callable[[bytearray], object]) -> None:
    weights = bytearray(SIZE)
    one = write(tmp_path / "one", {"model.safetensors": bytes(weights)})
    change(weights)
    two = write(tmp_path / "two", {"model.safetensors": bytes(weights)})
    assert fingerprint(one) != fingerprint(two)


def test_fourteen_gigabytes_take_well_under_a_second(tmp_path: Path) -> None:
    for number in range(3):
        with (tmp_path / f"model-{number}.safetensors").open("wb") as file:
            file.truncate(14 * 2**30 // 3)  # a sparse file, so that the disk need not hold it
    start = time.process_time()
    fingerprint(tmp_path)
    assert time.process_time() - start < 0.5


def test_a_folder_without_weights_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no weights \(\*\.safetensors or \*\.bin\): save them there"):
        fingerprint(write(tmp_path, {"config.json": b"{}"}))
    fingerprint(write(tmp_path, {"model.safetensors": b"x"}))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub in which of 'someone/model' only the config has arrived so far."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    write(tmp_path / "models--someone--model", {"refs/main": b"c0ffee", "snapshots/c0ffee/config.json": b"{}"})
    return tmp_path


def test_a_name_on_the_hub_is_known_by_its_commit_before_and_after_the_weights_arrive(cache: Path) -> None:
    assert model_fingerprint("someone/model") == "commit c0ffee"
    write(cache / "models--someone--model" / "snapshots" / "c0ffee", {"model.safetensors": b"x"})
    assert model_fingerprint("someone/model") == "commit c0ffee"


def test_another_commit_of_a_name_is_another_model(cache: Path) -> None:
    write(cache / "models--someone--model", {"refs/main": b"decaf", "snapshots/decaf/config.json": b"{}"})
    assert model_fingerprint("someone/model") == "commit decaf"


def test_a_name_that_is_not_in_the_cache_is_refused(cache: Path) -> None:
    with pytest.raises(UserError, match=r"model 'someone/other' has no config\.json in the local cache"):
        model_fingerprint("someone/other")


def test_a_path_to_a_folder_is_read_as_a_folder(tmp_path: Path) -> None:
    assert model_fingerprint(str(write(tmp_path, FILES))) == fingerprint(tmp_path)
