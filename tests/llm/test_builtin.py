from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
import torch

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.builtin import build_builtin, train_tokenizer

TEXTS = [f"title: film {n % 7} of the year; genre: drama {n}" for n in range(60)]
SIZES = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "vocab_size": 320, "max_positions": 64}
FINGERPRINT = """
import hashlib, json
from recbole_llmtrsr.llm.builtin import build_builtin
texts = [f"title: film {n % 7} of the year; genre: drama {n}" for n in range(60)]
built = build_builtin(texts, hidden_size=16, n_layers=1, n_heads=2, vocab_size=320, max_positions=64, seed=1,
                      required_tokens=(" yes", " no"))
weights = b"".join(p.detach().numpy().tobytes() for p in built.lm.parameters())
print(hashlib.sha256(built.tokenizer.backend_tokenizer.to_str().encode() + weights).hexdigest())
"""


def build(seed=1):
    return build_builtin(TEXTS, **SIZES, seed=seed, required_tokens=(" yes", " no"))


def fingerprint(built):
    weights = b"".join(p.detach().numpy().tobytes() for p in built.lm.parameters())
    return hashlib.sha256(built.tokenizer.backend_tokenizer.to_str().encode() + weights).hexdigest()


def test_it_is_small_standard_and_of_the_sizes_asked_for():
    built = build()
    config = built.lm.config

    assert built.name == "builtin"
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (16, 48, 1)
    assert config.vocab_size == len(built.tokenizer) >= 320
    assert built.lm.lm_head.weight is built.lm.model.embed_tokens.weight
    assert built.lm(torch.tensor([built.tokenizer.encode(TEXTS[0])])).logits.shape[-1] == config.vocab_size


def test_texts_and_seed_fix_vocabulary_and_weights():
    assert fingerprint(build()) == fingerprint(build())
    assert fingerprint(build(seed=2)) != fingerprint(build())


def test_a_saved_tokenizer_is_read_as_it_was(tmp_path):
    built = build()
    built.tokenizer.save_pretrained(tmp_path)
    again = build_builtin([], **SIZES, seed=1, tokenizer_file=tmp_path / "tokenizer.json")
    assert fingerprint(again) == fingerprint(built)
    assert again.tokenizer.pad_token_id == built.tokenizer.pad_token_id
    (tmp_path / "tokenizer.json").write_text("{}")
    for file in (tmp_path / "tokenizer.json", tmp_path / "none.json"):
        with pytest.raises(UserError, match=f"builtin_tokenizer: {file} cannot be read"):
            build_builtin([], **SIZES, seed=1, tokenizer_file=file)


@pytest.mark.slow
def test_another_process_builds_the_same():
    environment = {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", FINGERPRINT], capture_output=True, text=True, env=environment, check=True
    )

    assert run.stdout.strip().splitlines()[-1] == fingerprint(build())


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)

    build()

    assert torch.equal(torch.rand(1), expected)


def test_required_tokens_are_one_token_wherever_a_prompt_ends():
    tokenizer = train_tokenizer(["no answer"], vocab_size=260, required_tokens=(" yes", " no", " yesterday", " nova"))

    for token in (" yes", " no", " yesterday", " nova"):
        for prompt in ("Answer:", "an answer", "1"):
            assert tokenizer.encode(prompt + token)[: len(tokenizer.encode(prompt))] == tokenizer.encode(prompt)
            assert len(tokenizer.encode(prompt + token)) == len(tokenizer.encode(prompt)) + 1


def test_a_required_token_of_two_words_is_refused():
    with pytest.raises(ValueError, match="required token ' yes please' is not one word: give one word"):
        train_tokenizer(["a"], required_tokens=(" yes please",))


@pytest.mark.parametrize("text", ["Amélie (2001)", "映画 🎬", " two  spaces\tand a tab", "naïve \x00", ""])
def test_any_text_survives_the_tokenizer(text):
    tokenizer = build().tokenizer

    assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


def test_training_compresses_the_texts_it_saw():
    tokenizer = build().tokenizer

    assert len(tokenizer.encode(TEXTS[0])) * 2 < len(TEXTS[0])
    assert json.loads(tokenizer.backend_tokenizer.to_str())["model"]["unk_token"] is None
