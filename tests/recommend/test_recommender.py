"""A run that is read back gives the scores, summaries and prompts of its own test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_gguf
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

import recbole_llmtrsr
from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, write_candidate_file
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.explain import page, text
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.llm.generators.server import ServerGenerator
from recbole_llmtrsr.recommend import Recommender

LAMP = {"title": "Golden lamp", "maker": "Oslo"}
RATINGS = {
    **{"eval_args": {"mode": "labeled"}, "metrics": ["RMSE"], "valid_metric": "RMSE", "LABEL_FIELD": "rating"},
    **{"objective": "regression", "train_neg_sample_args": None},
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
}


@pytest.fixture(scope="module")
def recommender(trained):
    return Recommender.load(trained.folder)


def pretrained(folder, seed=0):
    """A causal LM as from the hub, with random weights."""
    tokenizer = train_tokenizer(["red blue lamp kettle Answer: yes no"] * 3, 400, [" yes", " no"])
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(seed)
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, initializer_range=0.2, **sizes)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def check_equal(run, **load):
    """Every tested user's scores, in one batch and one by one, by id and by the history as a list."""
    recommender = Recommender.load(run.folder, **load)
    users = sorted(run.scores)
    together = recommender.rank_many([(user, list(run.scores[user])) for user in users])
    for user, ranking in zip(users, together, strict=True):
        expected = run.scores[user]
        assert ranking.scores == pytest.approx(expected, abs=1e-5)
        assert recommender.rank(user, list(expected)).scores == pytest.approx(expected, abs=1e-5)
        assert recommender.rank(run.histories[user], list(expected)).scores == pytest.approx(expected, abs=1e-5)
        places = [round(one.score * 2**16) for one in ranking.items]  # what lies within rounding is equal
        assert places == sorted(places, reverse=True)
        assert ranking.summary == run.summaries[user]
        target, prompt = run.prompts[user]
        told = recommender.explain(user, [target])
        assert "".join(section.text for section in told.sections) == prompt
    spread = [score for scores in run.scores.values() for score in scores.values()]
    assert max(spread) - min(spread) > 2e-3  # many times what is compared
    return recommender


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("LLMTRSR", {}),
        ("LLMTRSR@recurrent", {"summary": "recurrent", "max_prompt_tokens": 220}),
        ("TALLRec", {}),
        ("LLMTRSR", {"summary_store": None, "n_recent_items": 3, "precision": "bf16"}),
        ("LLMTRSR", {"eval_args": {"mode": "full"}, "metrics": ["MRR"]}),
        ("LLMTRSR", {"eval_args": {"mode": "uni5", "split": {"US": [6, 3, 3]}}}),
        ("LLMTRSR", {"eval_args": {"mode": "uni5", "split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO"}}),
    ],
)
def test_scores_summaries_and_prompts_are_those_of_the_test(train, model, options):
    run = train(model, **options)
    recommender = check_equal(run)
    assert (recommender.label, recommender.dataset, recommender.n_items) == (model, "toy", 23)


def test_of_impressions_the_history_is_that_of_the_first_click(train, home):
    def chosen(user, event):
        return f"i{(5 * user + event * (1 + user % 3)) % 23}"

    others = [sorted({"i1", "i9", "i20"} - {chosen(u, event) for event in range(9)}) for u in range(12)]
    rows = [(f"u{u}", 6, [chosen(u, 6), chosen(u, 7)], others[u]) for u in range(12)]
    write_candidate_file(home / "data" / "toy" / "toy.impressions.npz", CandidateFile.from_rows(rows))
    eval_args = {"mode": {"valid": "uni5", "test": "impressions"}, "split": {"US": [6, 3, 3]}}
    recommender = check_equal(run := train(eval_args=eval_args))
    assert len(run.scores) >= 2
    for user in run.scores:
        assert len(recommender.history(user)) == 6
        assert len(recommender.history(user, whole=True)) == 9


@pytest.mark.slow
def test_an_adapter_on_a_pretrained_model_is_read_back(train, home):
    pretrained(home / "lm")
    run = train(backbone=str(home / "lm"), summary="none", answers=["yes", "no"], learning_rate=0.1)
    check_equal(run)
    pretrained(home / "moved")
    check_equal(run, options={"backbone": str(home / "moved")})
    pretrained(home / "other", seed=1)
    with pytest.raises(UserError, match="other' holds other weights than .* was trained with"):
        Recommender.load(run.folder, options={"backbone": str(home / "other")})


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["lora", "all"])
def test_the_first_layer_of_a_gguf_file_is_read_back_wherever_the_file_is(train, home, tune):
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tiny_gguf.tokenizer()), initializer_range=0.2, **sizes)
    file = tiny_gguf.write_gguf(home / tune / "lm.gguf", LlamaForCausalLM(config))
    run = train(backbone=str(file), backbone_layers=1, tune=tune, summary="none", learning_rate=0.001)
    weights = torch.load(run.result["checkpoint"], weights_only=True)["state_dict"]
    assert {name.split(".layers.")[1][0] for name in weights if ".layers." in name} == {"0"}
    if tune == "all":
        saved = json.loads((Path(run.result["checkpoint"]).with_suffix("") / "config.json").read_text())
        assert saved["num_hidden_layers"] == 1
    check_equal(run)
    moved = shutil.move(file, home / tune / "moved.gguf")
    with pytest.raises(UserError, match=r"lm\.gguf' is not a file"):
        Recommender.load(run.folder)
    check_equal(run, options={"backbone": str(moved)})


def test_predicted_ratings_are_those_of_the_test(train):
    run = train(**RATINGS)
    recommender = Recommender.load(run.folder)
    ranking = recommender.rank("u3", ["i1", "i2", "i3"])
    for one in ranking.items:
        assert one.score == pytest.approx(1 + 4 * one.p_yes, abs=1e-5)  # ratings go from 1 to 5
    assert run.result["test_result"]["rmse"] == pytest.approx(rmse(recommender, run), abs=1e-4)


def rmse(recommender, run):
    """By the last event of every user, which the test holds out."""
    errors = []
    for user in run.histories:
        target = recommender.history(user, whole=True)[-1]
        u = int(user[1:])
        errors.append(recommender.rank(user, [target]).items[0].score - (1 + (u + 8) % 5))
    return (sum(error**2 for error in errors) / len(errors)) ** 0.5


def test_summaries_of_a_file_are_those_of_the_known_users(train, home):
    lines = [{"user_id": f"u{u}", "n_events": 4, "summary": f"Likes number {u}."} for u in range(0, 12, 2)]
    (home / "by-hand.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    run = train(summarizer=f"file:{home / 'by-hand.jsonl'}")
    recommender = Recommender.load(run.folder)
    assert recommender.rank("u4", ["i1"]).summary == "Likes number 4."
    assert recommender.rank("u5", ["i1"]).summary == ""
    assert recommender.rank(run.histories["u4"], ["i1"]).summary == ""  # nobody says whose history it is
    for user in ("u4", "u5"):
        assert recommender.rank(user, list(run.scores[user])).scores == pytest.approx(run.scores[user], abs=1e-5)


def test_the_summaries_of_a_run_are_found_and_not_written_again(recommender, trained):
    told = recommender.explain("u3", ["i1"])
    assert {call.source for call in told.calls} == {"stored"}
    assert told.summary == trained.summaries["u3"]


def test_a_new_user_gets_a_summary_written_as_a_run_would(recommender):
    new = recommender.rank(["i1", "i7", "i1", LAMP, "i9"], ["i3"])
    assert new.summary == "title: lamp 3, blue 2, kettle 2, oak 1, Golden 1, old 1; maker: Graz 3, Oslo 2"
    told = recommender.explain(["i1", "i7", "i1", LAMP, "i9"], ["i3"])
    assert told.summary == new.summary
    assert [len(block.items) for block in told.blocks] == [2, 2, 1]
    assert told.calls[1].items == ("title: blue kettle; maker: Graz", "title: Golden lamp; maker: Oslo")


def test_texts_by_hand_score_as_the_same_texts_in_the_catalogue(recommender, trained):
    own = {"title": "blue kettle", "maker": "Graz"}  # i1
    for candidate in (own, {**own, "item_id": "new"}, {"maker": " Graz\n", "title": "blue   kettle"}):
        by_hand = recommender.rank("u3", [candidate, "i2"])
        assert sorted(one.score for one in by_hand.items) == pytest.approx(
            sorted(recommender.rank("u3", ["i1", "i2"]).scores.values()), abs=1e-6
        )
    history = trained.histories["u3"]
    lines = [one.line for one in recommender.explain("u3", ["i1"]).history]
    texts = [dict(pair.split(": ") for pair in line.split("; ")) for line in lines]
    assert recommender.rank(texts, ["i2"]).summary == recommender.rank(history, ["i2"]).summary
    assert recommender.rank(texts, ["i2"]).scores == pytest.approx(recommender.rank(history, ["i2"]).scores, abs=1e-6)


def test_items_never_seen_have_scores_of_their_own(recommender):
    lamps = [{"item_id": f"new{n}", "title": f"{kind} lamp"} for n, kind in enumerate(("Golden", "Broken", "Silk"))]
    ranking = recommender.rank("u3", [*lamps, "i2"])
    assert {one.item for one in ranking.items} == {"new0", "new1", "new2", "i2"}
    assert len({round(one.score, 6) for one in ranking.items}) == 4
    assert all(one.item == ("new0", "new1", "new2", "i2")[one.position] for one in ranking.items)
    assert [one.rank for one in ranking.items] == [1, 2, 3, 4]


def test_batch_mates_and_order_change_no_score(recommender, trained):
    questions = [(user, list(scores)) for user, scores in trained.scores.items()]
    questions += [([LAMP, "i3"] * n, ["i1", LAMP, {"title": "x " * 300}]) for n in (1, 5, 40)]
    together = recommender.rank_many(questions)
    for question, ranking in zip(questions, together, strict=True):
        alone = recommender.rank(*question)
        backwards = recommender.rank(question[0], question[1][::-1])
        last = len(question[1]) - 1
        expected = {one.position: one.score for one in ranking.items}
        assert {one.position: one.score for one in alone.items} == pytest.approx(expected, abs=1e-5)
        assert {last - one.position: one.score for one in backwards.items} == pytest.approx(expected, abs=1e-5)
    assert recommender.answer([]) == []


def test_long_texts_are_cut_and_told(recommender):
    ranking = recommender.rank(["i1"], [{"item_id": "long", "title": "word " * 1000}, "i2"])
    cut = {one.item: one.tokens_cut for one in ranking.items}
    assert cut["i2"] == 0
    assert cut["long"] > 800
    assert ranking.is_trimmed is False
    assert recommender.rank([{"title": "word " * 1000}] * 9, ["i2"]).is_trimmed is True


@pytest.mark.slow
def test_no_prompt_is_longer_than_the_run_allows(train):
    run = train(max_prompt_tokens=150, max_item_tokens=100)
    recommender = Recommender.load(run.folder)
    long = {"item_id": "long", "title": "zyx " * 300}
    told = recommender.explain([long, *run.histories["u3"]], [long, "i1"], shown=0)
    assert told.prompt_tokens + 1 <= 150
    assert recommender.rank("u3", [long]).items[0].tokens_cut > 0
    assert "cut from 100 to" in text(told)


def test_a_history_may_be_much_longer_than_any_of_the_run(recommender):
    items = [f"i{n % 23}" for n in range(500)]
    ranking = recommender.rank(items, ["i1"])
    assert ranking.n_history == 500
    assert len(recommender.explain(items, ["i1"]).blocks) == 250


def test_recommendations_are_the_best_of_the_catalogue_without_the_history(recommender, trained):
    history = trained.histories["u3"]
    others = [f"i{n}" for n in range(23) if f"i{n}" not in history]
    everything = recommender.rank("u3", others)
    found = recommender.recommend("u3", 4)
    assert [one.item for one in found.items] == [one.item for one in everything.items[:4]]
    assert [one.score for one in found.items] == pytest.approx([one.score for one in everything.items[:4]], abs=1e-5)
    assert [one.position for one in found.items] == [None] * 4
    assert len(recommender.recommend("u3", 100).items) == len(others)  # the catalogue ends
    again = recommender.recommend("u3", 100, with_history=True)
    assert {one.item for one in again.items} == {f"i{n}" for n in range(23)}


def test_new_users_and_unseen_items_are_recommended_to(recommender):
    found = recommender.recommend([LAMP, "i2", {"title": "Silk lamp"}], 3)
    assert len(found.items) == 3
    assert "i2" not in found.scores
    assert "lamp" in found.summary


def test_a_catalogue_beyond_the_bound_is_not_searched_unless_asked_for(trained):
    small = Recommender.load(trained.folder, most_prompts=22)
    with pytest.raises(UserError, match="would read 23 prompts, one for each item; allowed are 22") as fault:
        small.recommend("u3", 2)
    assert "most_prompts=23" in str(fault.value)
    assert len(Recommender.load(trained.folder, most_prompts=23).recommend("u3", 2).items) == 2


def test_where_all_was_chosen_nothing_is_left_to_recommend(recommender):
    everything = [f"i{n}" for n in range(23)]
    assert recommender.recommend(everything, 3).items == ()
    both = recommender.answer([recommender.search_query(everything, 3), recommender.query("u3", ["i1"])])
    assert [len(ranking.items) for ranking in both] == [0, 1]


def test_the_known_history_is_that_of_the_test_and_the_whole_one_holds_the_target(recommender, trained):
    assert recommender.history("u3") == trained.histories["u3"]
    assert recommender.history("u3", whole=True) == [*trained.histories["u3"], trained.prompts["u3"][0]]
    with pytest.raises(UserError, match="user 'once' has a single event"):
        recommender.history("once", whole=True)


def test_an_explanation_tells_the_best_candidate_or_the_one_asked_for(recommender):
    told = recommender.explain("u3", ["i1", LAMP, "i2"])
    best = recommender.rank("u3", ["i1", LAMP, "i2"]).items[0]
    assert told.shown.line == best.text
    assert (told.user, told.target, told.n_targets) == ("u3", None, 1)
    lamp = recommender.explain(["i1"], ["i1", LAMP], shown=1)
    assert lamp.shown.token == "by hand #2"
    assert "As the model reads it for the candidate by hand #2: " in text(lamp).replace("\n", " ")
    assert "How the ranking for a history given by hand came about" in page(lamp)
    assert "Target" not in page(lamp)
    scores = {one.position: one.score for one in recommender.rank("u3", ["i1", LAMP, "i2"]).items}
    assert dict(enumerate(c.log_odds for c in told.candidates)) == pytest.approx(scores, abs=1e-5)
    with pytest.raises(IndexError, match="shown: 2 is no position among 2 candidates"):
        recommender.explain(["i1"], ["i1", "i2"], shown=2)


def test_nothing_of_the_model_grows_with_what_is_asked(recommender):
    model = recommender._model
    before = (len(model.prompts._prefixes), len(recommender._summaries._writer._catalogue._keys))
    for n in range(30):
        recommender.rank([{"title": f"lamp {n}"}, "i1"], [{"title": f"desk {n}"}])
    assert len(model.prompts._prefixes) == before[0] == 0
    assert len(recommender._summaries._writer._catalogue._keys) <= 23


def test_the_package_offers_the_class():
    assert recbole_llmtrsr.Recommender is Recommender
    with pytest.raises(AttributeError, match="no attribute 'Recomender'"):
        recbole_llmtrsr.Recomender  # noqa: B018


def test_queries_are_values(recommender):
    query = recommender.query("u3", ["i1"])
    assert query == recommender.query("u3", ["i1"])
    assert (query.n_prompts, recommender.search_query("u3", 2).n_prompts) == (1, 23)


def test_an_extract_in_place_of_a_summary_is_told_of_the_history_that_it_stands_for(train, monkeypatch):
    pytest.importorskip("openai", reason="needs the extra 'server'")
    answer = GeneratedText("likes lamps")
    monkeypatch.setattr(
        ServerGenerator, "generate", lambda self, prompts, limit: ((i, answer) for i in range(len(prompts)))
    )
    asked = {"summarizer": "openai:tiny@http://server.invalid/v1"}
    recommender = Recommender.load(train(**asked, summary_store=None, n_recent_items=4).folder, options=asked)
    known = recommender.rank("u3", ["i1", "i2"])
    assert (known.summary, known.is_replaced) == ("likes lamps", False)
    new, answer = ["i5", "i6", "i7", "i8", "i9"], GenerationFailure("status 500")
    again, replaced = recommender.rank_many([("u3", ["i1", "i2"]), (new, ["i1", "i2"])])
    assert (again.summary, again.is_replaced, again.scores) == ("likes lamps", False, known.scores)
    assert replaced.is_replaced
    assert replaced.summary not in ("", "likes lamps")
    answer = GeneratedText("likes lamps")
    assert not recommender.rank(new, ["i1", "i2"]).is_replaced
