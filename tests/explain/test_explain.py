"""From a data set, its summaries and a model to an explanation."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from byte_tokenizer import Bytes
from recbole.data.interaction import Interaction

from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.explain import candidate_scores, explain, page, text
from recbole_llmtrsr.explain.explain import find_row
from recbole_llmtrsr.prompt.builder import PromptBuilder
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.registry import get_dataset, get_model, get_trainer
from recbole_llmtrsr.summarizer.trace import TracedCall


class Summaries:
    """Calls for the test target of user 'six', numbered as in a plan of many users."""

    def calls_of(self, history_id):
        first = [f"title: {line}" for line in ('Red "Star" kettle', "Blue kettle")]
        second = [f"title: {line}" for line in ("Green lamp", "White lamp")]
        return [
            TracedCall(12, "block", tuple(first), (), "kettles", "stored"),
            TracedCall(4, "block", tuple(second), (), "lamps", "written", 9, 2, "length", ("cut_off",)),
            TracedCall(31, "merge", (), (12, 4), "kettles, lamps", "written", 8, 3),
        ]


@pytest.fixture
def splits(make_config):
    """Loaders of train, valid and test; the latest history of 'six' is i1 to i5, before i6."""

    def make(**options):
        config = make_config(item_text_fields=["title"], block_size=2, **options)
        loaders, *_ = make_loaders(config, get_dataset(get_model("LLMTRSR"))(config))
        return config, loaders

    return make


def prompts_of(dataset, **changes):
    catalogue = [dataset.item(i).line for i in range(dataset.item_num)]
    settings = replace(dataset.config.settings.prompt, **changes)
    return PromptBuilder(Bytes(), templates_for("generic"), settings, catalogue, with_summary=True)


def item_id(dataset, token):
    return dataset.token2id(dataset.iid_field, token)


def test_an_explanation_in_full(splits):
    config, (_, _, test) = splits()
    dataset = test._dataset
    row, _ = find_row("six", dataset)
    dataset.set_summaries({int(dataset.inter_feat[HISTORY_ID][row]): "kettles, lamps"})
    prompts = prompts_of(dataset, n_recent_items=3, max_prompt_tokens=320, max_item_tokens=16, max_summary_tokens=9)
    scores = {item_id(dataset, "i9"): -1.5, item_id(dataset, "i6"): 0.5}
    made = explain("six", dataset, Summaries(), prompts, scores)
    assert (made.dataset, made.model, made.user, made.n_targets) == ("tiny", "LLMTRSR", "six", 1)
    assert (made.target.token, made.target.line) == ("i6", "title: Large desk")
    assert [item.token for item in made.history] == ["i1", "i2", "i3", "i4", "i5"]
    assert [(c.number, c.inputs, c.text) for c in made.calls] == [
        (1, (), "kettles"),
        (2, (), "lamps"),
        (3, (1, 2), "kettles, lamps"),
    ]
    assert made.calls[1].faults == ("cut_off",)
    assert (made.result, made.summary, made.block_size) == (3, "kettles, lamps", 2)
    assert [block.call and block.call.number for block in made.blocks] == [1, 2, None]
    assert [(c.token, c.line, c.log_odds, c.is_target, c.tokens_cut, c.read) for c in made.candidates] == [
        ("i9", "title: Oak chair", -1.5, False, 0, ""),
        ("i6", "title: Large desk", 0.5, True, 1, "title: Large des"),
    ]
    assert made.summary_read == "kettles,"
    assert [(s.name, s.text, s.note) for s in made.sections[2:5]] == [
        ("summary", "kettles, ", "cut from 14 to 9 tokens"),
        ("recent header", "\nLast items, oldest first:\n", ""),
        (
            "recent items",
            "title: White lam\ntitle: Small des\n",
            "older recent items left out for lack of room: i3; item texts cut at max_item_tokens (number of tokens"
            " cut): i4 (1), i5 (1)",
        ),
    ]
    assert made.n_recent == 2
    assert made.sections[6].text == "title: Large des"
    assert dict(made.options)["block_size"] == "2"
    assert dict(made.options)["backbone"] == "builtin"
    assert "Rank 1 of 2" in page(made)
    assert "rank      1 of 2\n" in text(made)


def test_without_a_model_the_rest_is_told(splits):
    config, (_, _, test) = splits(summarize_only=True)
    row, _ = find_row("six", test._dataset)
    test._dataset.set_summaries({int(test._dataset.inter_feat[HISTORY_ID][row]): "kettles, lamps"})
    made = explain("six", test._dataset, Summaries(), no_scores="summarize_only")
    assert (made.sections, made.candidates, made.no_candidates) == ((), (), "summarize_only")
    assert (made.n_recent, made.summary) == (5, "kettles, lamps")


def test_without_summaries_the_rest_is_told(splits):
    config, (_, _, test) = splits(summary="none")
    made = explain("six", test._dataset, None)
    assert (made.calls, made.result, made.summary, made.block_size) == ((), None, None, None)
    assert made.no_candidates == "the candidates were not scored"


def test_an_unknown_user_is_told_with_the_nearest_ids_and_one_without_a_target_with_the_reason(splits):
    config, (_, _, test) = splits()
    for user, fault in {
        "thrise": "explain: no user 'thrise' among the 6 users of 'tiny' after filtering; the nearest ids are thrice, ",
        "": "no user '' among the 6 users",
        "[PAD]": r"no user '\[PAD\]'",
        "once": "user 'once' has no target in this split, because of too few events; . of 6",
    }.items():
        with pytest.raises(UserError, match=fault):
            explain(user, test._dataset, None)


def test_of_several_targets_the_latest_is_explained(splits):
    config, (train, _, _) = splits()
    made = explain("six", train._dataset, None)
    assert (made.n_targets, made.target.token) == (3, "i4")
    assert [item.token for item in made.history] == ["i1", "i2", "i3"]


class Constant:
    """A model whose score is the item id, less one hundred for the padding; fails while it is in training mode."""

    device = "cpu"

    def __init__(self):
        self.training = True

    def eval(self):
        self.training = False

    def predict(self, rows: Interaction):
        assert not self.training
        return rows["item_id"].float()

    def full_sort_predict(self, rows):
        assert not self.training
        return torch.cat([torch.tensor([-100.0]), torch.arange(1.0, 10.0)])


@pytest.fixture
def trainer():
    return SimpleNamespace(model=Constant(), accelerator=SimpleNamespace(autocast=torch.no_grad))


def test_the_candidates_are_those_of_the_evaluation(splits, trainer):
    config, (_, _, test) = splits()
    scores = candidate_scores(trainer, test, "six")
    row, _ = find_row("six", test._dataset)
    items, is_positive = test.candidates[int(test._dataset.inter_feat[HISTORY_ID][row])]
    negatives = items[~is_positive].tolist()
    assert scores == {i: float(i) for i in [item_id(test._dataset, "i6"), *negatives]}


def test_in_full_ranking_every_item_is_a_candidate_but_the_padding(splits, trainer):
    config, (_, _, test) = splits(eval_args={"mode": "full"})
    assert candidate_scores(trainer, test, "six") == {i: float(i) for i in range(1, 10)}


def test_where_no_list_is_ranked_there_are_no_scores(splits, trainer):
    config, (train, _, _) = splits()
    assert candidate_scores(trainer, train, "six") is None


def test_scores_are_those_of_the_evaluation(splits):
    tiny = {"builtin_hidden_size": 16, "builtin_n_layers": 1, "builtin_n_heads": 2, "builtin_vocab_size": 400}
    config, (train, _, test) = splits(summary="none", epochs=1, **tiny)
    model = get_model("LLMTRSR")(config, train._dataset)
    trainer = get_trainer(get_model("LLMTRSR"))(config, model)
    expected = {}
    model.eval()
    with torch.no_grad():
        for rows, _, _, _ in test:
            for user, item, score in zip(rows["user_id"].tolist(), rows["item_id"].tolist(), model.predict(rows)):
                expected.setdefault(user, {})[item] = score.item()
    model.train()
    six = test._dataset.token2id("user_id", "six")
    scores = candidate_scores(trainer, test, "six")
    assert scores == pytest.approx(expected[six], abs=1e-5)
    made = explain("six", test._dataset, None, model.prompts, scores)
    history, target = [item_id(test._dataset, f"i{n}") for n in range(1, 6)], item_id(test._dataset, "i6")
    ids = [*model.prompts.prefix(99, "", history), *model.prompts.candidate(target)]
    assert [i for section in model.prompts.sections("", history, target) for i in section.ids] == ids
    assert made.prompt_tokens == len(ids)
    assert "".join(section.text for section in made.sections).endswith("title: Large desk\nAnswer:")
