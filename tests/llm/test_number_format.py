from __future__ import annotations

import logging

import pytest
import torch
from transformers import Gemma3nTextConfig, LlamaConfig, LlamaForCausalLM

from recbole_llmtrsr.config.options import BackboneSettings
from recbole_llmtrsr.llm import number_format
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.number_format import autocast, weights_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def saved(folder, hidden_size=256):
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=hidden_size,
        intermediate_size=320,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    train_tokenizer(["a"]).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def speeds(monkeypatch):
    """Speeds by number format, which a test may change; and the shapes of the products that were measured."""
    found = {torch.float32: 100e9, torch.bfloat16: 400e9}
    shapes = []

    def peak(device, dtype, shape):
        shapes.append(shape)
        return found[dtype]

    monkeypatch.setattr(number_format, "matrix_product_peak", peak)
    number_format._faster.cache_clear()
    yield found, shapes
    number_format._faster.cache_clear()


def test_auto_takes_the_faster_format_of_the_backbones_shapes_and_tells_both_speeds(folder, speeds, caplog):
    _, shapes = speeds
    caplog.set_level(logging.INFO)

    assert weights_dtype(BackboneSettings(backbone=folder), CPU) == torch.bfloat16

    assert shapes == [(256, 256, 320)] * 2
    assert "precision: auto is bf16" in caplog.text
    assert "100 GFLOP/s in fp32 and 400 GFLOP/s in bf16" in caplog.text


def test_a_small_difference_leaves_fp32(folder, speeds):
    speeds[0][torch.bfloat16] = 115e9

    assert weights_dtype(BackboneSettings(backbone=folder), CPU) == torch.float32


@pytest.mark.parametrize(("precision", "slow"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_an_explicit_slow_choice_is_kept_and_warned_of_once(folder, speeds, caplog, precision, slow):
    speeds[0].update({torch.float32: 100e9, torch.bfloat16: 100e9})
    speeds[0][slow] = 50e9
    options = BackboneSettings(backbone=folder, precision=precision)

    assert [weights_dtype(options, CPU), weights_dtype(options, CPU)] == [slow, slow]

    (warning,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert f"precision: {precision} is the slower format" in warning


def test_an_explicit_fast_choice_is_not_warned_of(folder, speeds, caplog):
    assert weights_dtype(BackboneSettings(backbone=folder, precision="bf16"), CPU) == torch.bfloat16

    assert not caplog.records


@pytest.mark.parametrize("options", [{}, {"backbone": "FOLDER", "tune": "all"}])
def test_trained_weights_stay_fp32_without_a_measurement(folder, speeds, options):
    options = {name: folder if value == "FOLDER" else value for name, value in options.items()}

    assert weights_dtype(BackboneSettings(**options), CPU) == torch.float32
    assert not speeds[1]


def test_several_processes_do_not_measure(folder, speeds, monkeypatch):
    monkeypatch.setattr(number_format.processes, "count", lambda: 2)

    assert weights_dtype(BackboneSettings(backbone=folder), CPU) == torch.float32
    assert not speeds[1]


def test_a_small_backbone_is_not_measured(tmp_path, speeds):
    assert weights_dtype(BackboneSettings(backbone=saved(tmp_path, hidden_size=32)), CPU) == torch.float32
    assert not speeds[1]


def test_a_backbone_may_state_an_inner_size_for_each_layer(tmp_path):
    sizes = {"hidden_size": 256, "intermediate_size": [320, 640], "num_hidden_layers": 2}
    Gemma3nTextConfig(vocab_size=300, **sizes, layer_types=["full_attention"] * 2).save_pretrained(tmp_path)
    train_tokenizer(["a"]).save_pretrained(tmp_path)
    assert number_format._shape(str(tmp_path), False)[1:] == (256, 640)


def test_autocast_follows_the_weights(folder, speeds):
    with autocast(BackboneSettings(backbone=folder), CPU):
        assert torch.is_autocast_enabled("cpu")
    with autocast(BackboneSettings(), CPU):
        assert not torch.is_autocast_enabled("cpu")


def test_a_gpu_with_bf16_takes_it_without_a_measurement(folder, speeds, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)

    assert weights_dtype(BackboneSettings(backbone=folder), CUDA) == torch.bfloat16
    assert not speeds[1]
