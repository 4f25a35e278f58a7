"""LLMTRSRTrainer: accumulation, learning rate, what it saves."""

import threading

import numpy as np
import pytest
import torch
import toy

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.grouped_rows import GroupedRows
from recbole_llmtrsr.registry import get_dataset, get_model
from recbole_llmtrsr.training.trainer import LLMTRSRTrainer

NEGATIVE = {"distribution": "uniform", "sample_num": 1}
TINY = {**toy.TINY, "summary": "none", "train_neg_sample_args": NEGATIVE, "train_batch_size": 8}


@pytest.fixture(autouse=True)
def toy_in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy.write_atomic(tmp_path / "data" / "toy", toy.toy_events(*[5] * 8))


def prepared(**options):
    """A trainer, and the first two training batches (4 histories x 2 candidates each)."""
    config = Config(get_model("LLMTRSR"), "toy", [], {**TINY, **options})
    torch.manual_seed(0)
    dataset = get_dataset(get_model("LLMTRSR"))(config)
    (train, _, _), *_ = make_loaders(config, dataset)
    trainer = LLMTRSRTrainer(config, get_model("LLMTRSR")(config, train._dataset))
    batches = []
    for part in (slice(0, 4), slice(4, 8)):
        rows = train._dataset.inter_feat[part]
        negatives = (rows["item_id"] + 5) % 13 + 1
        batches.append(train._neg_sample_by_point_wise_sampling(rows, negatives))
    return trainer, batches


def both(batches):
    """One batch of two: RecBole lists all targets first, then all negatives."""
    from recbole.data.interaction import cat_interactions

    return cat_interactions([batches[0][:4], batches[1][:4], batches[0][4:], batches[1][4:]])


def assert_equal_weights(one, other, atol=2e-6, rtol=1e-4):
    expected = other.model.state_dict()
    for name, weight in one.model.state_dict().items():
        torch.testing.assert_close(weight, expected[name], atol=atol, rtol=rtol)


def recorded_rates(trainer):
    """A list that fills with the learning rate of every step from now on."""
    rates = []
    step = trainer.optimizer.step

    def recorded(*args, **kwargs):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return step(*args, **kwargs)

    trainer.optimizer.step = recorded
    return rates


PLAIN_SGD = {
    "learner": "sgd",
    "learning_rate": 20.0,
    "weight_decay": 0.0,
    "lr_scheduler": "constant",
    "warmup_ratio": 0.0,
    "clip_grad_norm": None,
}


def test_two_accumulated_batches_move_the_weights_as_one_batch_of_both():
    whole, batches = prepared(**PLAIN_SGD)
    before = {name: weight.clone() for name, weight in whole.model.state_dict().items()}
    halves, _ = prepared(**PLAIN_SGD, gradient_accumulation_steps=2)
    whole._train_epoch([both(batches)], 0)
    halves._train_epoch(batches, 0)
    after = whole.model.state_dict()
    assert any((after[name] - before[name]).abs().max() > 1e-3 for name in before)
    assert_equal_weights(halves, whole, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "listwise"},
        {"objective": "pointwise"},
        {"loss_on": "full", "objective": "pointwise"},
        {"attention": "plain"},
    ],
    ids=["listwise", "pointwise", "full", "plain"],
)
def test_a_batch_read_one_history_at_a_time_moves_the_weights_as_in_one_pass(options):
    whole, batches = prepared(**PLAIN_SGD, **options, max_tokens_per_batch=100_000)
    batch = both(batches)[:-1]  # one history has no negative: shares in a mean over rows are not those over histories
    before = {name: weight.clone() for name, weight in whole.model.state_dict().items()}
    parts, _ = prepared(**PLAIN_SGD, **options, max_tokens_per_batch=1)
    n_histories = len(batch["history_id"].unique())
    assert len(whole.model.micro_batches(batch)) == 1
    assert len(parts.model.micro_batches(batch)) == n_histories == 8
    loss = whole._train_epoch([batch], 0)
    assert parts._train_epoch([batch], 0) == pytest.approx(loss, abs=1e-5)
    after = whole.model.state_dict()
    assert any((after[name] - before[name]).abs().max() > 1e-3 for name in before)
    assert_equal_weights(parts, whole)


def small_memory(trainer, n_tokens):
    """Let every backward pass over more tokens fail, half done; returns how many tokens each pass had."""
    passes = []
    decoder = trainer.model.backbone.decoder
    forward = decoder.forward

    def limited(*args, input_ids, **kwargs):
        passes.append(input_ids.numel())
        output = forward(*args, input_ids=input_ids, **kwargs)
        if input_ids.numel() > n_tokens:
            output.last_hidden_state.sum().backward(retain_graph=True)  # gradients of a pass that will not count
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return output

    decoder.forward = limited
    return passes


def test_out_of_memory_halves_the_budget_and_the_step_is_the_same():
    whole, batches = prepared(**PLAIN_SGD, gradient_accumulation_steps=2)
    little, _ = prepared(**PLAIN_SGD, gradient_accumulation_steps=2)
    passes = small_memory(little, 300)
    whole._train_epoch(batches, 0)
    little._train_epoch(batches, 0)
    assert max(passes) > 300 >= passes[-1]
    assert little.model.budgets["training"].halved == 1
    assert little.model.meter.totals() == whole.model.meter.totals()  # nothing is counted twice
    assert little.model.budgets["training"].max_tokens == max(passes) // 2
    assert_equal_weights(little, whole)


def test_a_memory_too_small_for_the_optimizer_ends_the_run_with_the_remedy(monkeypatch):
    trainer, batches = prepared()

    def no_room(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(trainer.optimizer, "step", no_room)
    with pytest.raises(
        UserError, match=r"has too little memory for the optimizer state of [\d,]+ trained weights.*tune: lora"
    ):
        trainer._train_epoch(batches, 0)


@pytest.mark.slow
def test_a_memory_too_small_for_one_history_ends_the_run_with_the_remedy():
    trainer, batches = prepared()
    small_memory(trainer, 10)
    with pytest.raises(UserError, match=r"training is out of memory with \d+ tokens, .* fewer negatives"):
        trainer._train_epoch(batches, 0)


def test_other_errors_of_a_step_pass_through():
    trainer, batches = prepared()

    def broken(*args, **kwargs):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    trainer.model.backbone.decoder.forward = broken
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trainer._train_epoch(batches, 0)


@pytest.mark.parametrize("max_tokens", [300, 700, 2000])
def test_parts_of_plain_rows_keep_the_bound_with_their_padding(max_tokens):
    trainer, batches = prepared(attention="plain", max_tokens_per_batch=max_tokens)
    passes = small_memory(trainer, 10**9)
    trainer.model.prompts._prefixes[int(batches[0]["history_id"][0])] = np.arange(5, 100, dtype=np.int32)  # a long one
    trainer._train_epoch([both(batches)], 0)
    assert len(passes) > 1 or max_tokens == 2000
    assert max(passes) <= max_tokens


def test_a_score_that_is_no_number_makes_the_pointwise_loss_none():
    trainer, batches = prepared(objective="pointwise")
    with torch.no_grad():
        trainer.model.backbone.output_head.weight[trainer.model.yes_id] = float("nan")
    assert trainer.model.calculate_loss(batches[0]).isnan()


def test_a_loader_that_asks_the_model_for_negatives_is_not_run_ahead_of_it():
    sampled = {"distribution": "uniform", "sample_num": 1, "dynamic": True, "candidate_num": 2}
    trainer, batches = prepared(train_neg_sample_args=sampled)
    threads = set()

    def loader():
        for batch in batches:
            threads.add(threading.current_thread())
            yield batch

    assert [id(batch) for batch in trainer._batches(loader())] == [id(batch) for batch in batches]
    assert threads == {threading.main_thread()}


def test_no_validation_data_evaluate_to_nothing():
    trainer, _ = prepared()
    assert trainer.evaluate(None) is None


def test_prompts_are_made_on_another_thread():
    trainer, batches = prepared()
    threads = set()
    build = trainer.model.prompts._fit

    def watched(*args):
        threads.add(threading.current_thread())
        return build(*args)

    trainer.model.prompts._fit = watched
    trainer._train_epoch(batches, 0)
    assert len(threads) == 1
    assert threading.main_thread() not in threads


def test_a_batch_is_grouped_once_in_training_and_in_a_test(monkeypatch):
    trainer, batches = prepared(max_tokens_per_batch=300)
    grouped, of = [], GroupedRows.of
    monkeypatch.setattr(GroupedRows, "of", lambda *given: grouped.append(1) or of(*given))
    trainer._train_epoch(batches, 0)
    assert len(grouped) == len(batches)
    assert len(trainer.model.micro_batches(batches[0])) > 1
    grouped.clear()
    (_, _, test), *_ = make_loaders(trainer.config, get_dataset(get_model("LLMTRSR"))(trainer.config))
    trainer.evaluate(test, load_best_model=False)
    assert len(grouped) == len(test) > 0


def test_a_last_short_group_of_batches_is_not_lost():
    trainer, batches = prepared(**PLAIN_SGD, gradient_accumulation_steps=4)
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer._train_epoch(batches, 0)
    assert any((weight - before[name]).abs().max() > 1e-3 for name, weight in trainer.model.state_dict().items())
    assert all(p.grad is None for p in trainer.model.parameters())


def test_clipping_bounds_the_step():
    trainer, batches = prepared(**{**PLAIN_SGD, "clip_grad_norm": {"max_norm": 0.001}})
    before = torch.cat([p.detach().clone().flatten() for p in trainer.model.parameters()])
    trainer._train_epoch(batches[:1], 0)
    after = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    assert float((after - before).norm()) == pytest.approx(20 * 0.001, rel=1e-3)


def test_the_learning_rate_warms_up_and_decays_over_all_epochs():
    trainer, batches = prepared(epochs=2, learning_rate=1.0, warmup_ratio=0.5, lr_scheduler="linear")
    rates = recorded_rates(trainer)
    for epoch in range(2):
        trainer._train_epoch(batches, epoch)
    assert rates == [0.0, 0.5, 1.0, 0.5]


def test_the_optimizer_has_the_betas_and_decay_that_were_set():
    trainer, _ = prepared(learner="adamw", adam_betas=[0.8, 0.9], weight_decay=0.25)
    group = trainer.optimizer.param_groups[0]
    assert group["betas"] == (0.8, 0.9)
    assert group["weight_decay"] == 0.25


def test_a_loss_that_becomes_nan_stops_the_run_with_the_remedy():
    trainer, batches = prepared()
    with torch.no_grad():
        next(iter(trainer.model.parameters())).fill_(float("nan"))
    with pytest.raises(UserError, match=r"nan in epoch 0: lower learning_rate"):
        trainer._train_epoch(batches, 0)


def test_gradient_checkpointing_changes_no_step():
    plain, batches = prepared(**PLAIN_SGD)
    saving, _ = prepared(**PLAIN_SGD, gradient_checkpointing=True)
    plain._train_epoch(batches, 0)
    saving._train_epoch(batches, 0)
    assert_equal_weights(saving, plain, atol=1e-5)


def test_a_checkpoint_holds_trainable_weights_and_plain_values_and_restores_them(tmp_path):
    trainer, batches = prepared()
    trainer._train_epoch(batches, 0)
    trainer._save_checkpoint(0, verbose=False)
    saved = torch.load(trainer.saved_model_file, weights_only=True)
    assert set(saved["state_dict"]) == {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    other, _ = prepared(learning_rate=0.5)
    other.resume_checkpoint(trainer.saved_model_file)
    assert other.start_epoch == 1
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], weight)


def test_a_resumed_run_steps_at_the_rate_where_the_first_one_stopped():
    trainer, batches = prepared(epochs=3, learning_rate=1.0, warmup_ratio=0.0, lr_scheduler="linear")
    trainer._train_epoch(batches, 0)
    trainer._save_checkpoint(0, verbose=False)
    resumed, _ = prepared(epochs=3, learning_rate=1.0, warmup_ratio=0.0, lr_scheduler="linear")
    resumed.resume_checkpoint(trainer.saved_model_file)
    rates = recorded_rates(resumed)
    resumed._train_epoch(batches, 1)
    assert rates == [pytest.approx(4 / 6), pytest.approx(3 / 6)]


def test_two_trainers_of_one_process_may_differ_in_precision():
    for precision, expected in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        trainer, batches = prepared(precision=precision)
        assert trainer.accelerator.mixed_precision == expected
        assert trainer._train_epoch(batches, 0) > 0


def test_a_checkpoint_of_another_tokenizer_is_refused_and_the_model_stays_as_it_is():
    trainer, _ = prepared()
    trainer._save_checkpoint(0, verbose=False)
    other, _ = prepared(domain="movies")  # other wording, so that the builtin backbone learns other tokens
    before = {name: weight.clone() for name, weight in other.model.state_dict().items()}
    with pytest.raises(UserError, match="was trained with another tokenizer"):
        other.resume_checkpoint(trainer.saved_model_file)
    assert all(torch.equal(weight, before[name]) for name, weight in other.model.state_dict().items())
