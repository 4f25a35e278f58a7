"""What cannot be read back is refused with its remedy."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.recommend import Recommender
from recbole_llmtrsr.recommend.run_options import NAMING, PLACES
from recbole_llmtrsr.runtime import checkpoints


def refusal(folder, **load):
    with pytest.raises(UserError) as fault:
        Recommender.load(folder, **load)
    return str(fault.value)


def changed(trained, folder, **values):
    """The run with another result.json."""
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({**trained.result, **values}))
    return folder


def with_checkpoint(trained, folder, planted=None, **parts):
    """The run with another checkpoint, its backbone's folder beside it; with options that it did not have."""
    old = trained.result["checkpoint"]
    saved = {**torch.load(old, weights_only=True), **parts}
    if planted:
        saved["config"] = {**saved["config"], **planted}
    changed(trained, folder, checkpoint=str(folder / "own.pth"), options=saved.get("config"))
    torch.save({name: value for name, value in saved.items() if value is not ...}, folder / "own.pth")
    shutil.copytree(old.removesuffix(".pth"), folder / "own")
    return folder


def test_a_folder_without_a_run_is_told_and_the_runs_below_it_that_can_be_loaded(trained, tmp_path):
    remedy = "give the folder of one run of LLMTRSR or TALLRec"
    assert refusal(tmp_path) == f"{tmp_path} holds no result.json, so it is no run: {remedy}"
    assert refusal(tmp_path / "none").startswith(f"{tmp_path / 'none'} holds no result.json")
    below = changed(trained, tmp_path / "LLMTRSR" / "seed-1")
    for model in ("HLLM", "SASRec"):
        changed(trained, tmp_path / model, model=model)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "result.json").write_text("{")
    assert refusal(tmp_path).endswith(f"{remedy}, such as {below}")
    Recommender.load(below)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model": "LLMTRSR"}'])
def test_a_damaged_result_is_told(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    assert f"{tmp_path / 'result.json'} cannot be read" in refusal(tmp_path)


def test_models_that_read_no_candidates_are_refused(train, trained, tmp_path):
    expected = "which reads no prompts with candidates: accepted are runs of LLMTRSR and TALLRec"
    for model in ("SASRec", "HLLM", "LiteLLM4Rec", "LLMSeqSim"):
        assert expected in refusal(changed(trained, tmp_path / model, model=model))
    assert "model 'Nonsense' is neither one of" in refusal(changed(trained, tmp_path / "x", model="Nonsense"))


def test_runs_without_a_checkpoint_are_refused(train, trained, tmp_path):
    only = train(summarize_only=True)
    assert "ended with its summaries, so it has no checkpoint" in refusal(only.folder)
    unsaved = changed(trained, tmp_path / "unsaved", checkpoint=None)
    assert "did not save one (saved=False)" in refusal(unsaved)
    lost = changed(trained, tmp_path / "lost", checkpoint="gone.pth")
    assert "start in the folder where the run was started, or name the file as checkpoint" in refusal(lost)
    Recommender.load(lost, checkpoint=trained.result["checkpoint"])


def test_nothing_is_unpickled(trained, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    folder = with_checkpoint(trained, tmp_path / "run", evil=Evil())
    assert "holds more than tensors and plain values" in refusal(folder)
    given = {**torch.load(trained.result["checkpoint"], weights_only=True)["given_options"], "trust_checkpoint": True}
    folder = with_checkpoint(trained, tmp_path / "other", evil=Evil(), given_options=given)
    assert "holds more than tensors and plain values" in refusal(folder)
    assert not (tmp_path / "ran").exists()
    Recommender.load(trained.folder, options={"trust_checkpoint": True})  # trusts what it loads, not what comes later
    assert "holds more than tensors and plain values" in refusal(folder)


def test_a_damaged_or_foreign_checkpoint_is_told(trained, tmp_path):
    (tmp_path / "bad.pth").write_bytes(b"no checkpoint")
    assert "damaged, truncated or not a checkpoint" in refusal(trained.folder, checkpoint=tmp_path / "bad.pth")
    old = with_checkpoint(trained, tmp_path / "old", identity=...)
    assert "does not hold its options and data" in refusal(old)


OTHERS = [
    ({"model": "TALLRec"}, "is of a TALLRec, the run in"),
    ({"builtin_hidden_size": 24}, "the weights in the checkpoint do not match"),
    ({"summarizer": "evil/model"}, "takes its summarizer 'evil/model' from the model hub"),
    ({"summarizer": "evil"}, "takes its summarizer 'evil' from the model hub"),
]


@pytest.mark.parametrize(("planted", "message"), OTHERS)
def test_a_checkpoint_whose_options_do_not_fit_or_ask_the_hub_is_refused(trained, tmp_path, planted, message):
    assert message in refusal(with_checkpoint(trained, tmp_path / "run", planted))


def test_another_tokenizer_is_told(trained, tmp_path):
    folder = with_checkpoint(trained, tmp_path / "run")
    tokenizer = folder / "own" / "tokenizer.json"
    content = json.loads(tokenizer.read_text())
    content["model"]["merges"].pop()
    tokenizer.write_text(json.dumps(content))
    assert "was trained with another tokenizer" in refusal(folder)
    tokenizer.unlink()
    assert "give the tokenizer.json in the folder beside a checkpoint" in refusal(folder)


def test_a_data_set_that_changed_since_is_told(trained, tmp_path, write_data):
    def data(change, **options):
        folder = tmp_path / change.__name__
        write_data(folder, **options)
        change(folder / "toy" / "toy.inter")
        return {"data_path": str(folder)}

    def same(file):
        pass

    def fewer_users(file):
        file.write_text("".join(line for line in file.open() if not line.startswith("u7\t")))

    def other_test(file):  # u8's last event, which the test holds out
        file.write_text(file.read_text().replace("u8\ti18\t8\t2\n", "u8\ti3\t8\t2\n"))

    def other_training(file):  # u8's third event, which every history of u8 in the test holds
        assert "u8\ti0\t2\t1\n" in file.read_text()
        file.write_text(file.read_text().replace("u8\ti0\t2\t1\n", "u8\ti6\t2\t1\n"))

    def other_texts(file):
        pass

    Recommender.load(trained.folder, options=data(same))
    assert "has other users" in refusal(trained.folder, options=data(fewer_users))
    message = refusal(trained.folder, options=data(other_test))
    assert "has other events held out for validation and test than when" in message
    message = refusal(trained.folder, options=data(other_training))
    assert "has other events of training (toy.inter has changed) than when" in message
    assert "point data_path to the earlier files, or train again" in message
    message = refusal(trained.folder, options=data(other_texts, titles={"i22": "white whale"}))
    assert "texts of the .item file, or the wording of this version, have changed since" in message
    assert "no toy.inter in" in refusal(trained.folder, options={"data_path": str(tmp_path / "nowhere")})


def test_a_run_that_does_not_tell_its_files_is_loaded_with_a_warning(trained, tmp_path, caplog):
    changed(trained, tmp_path / "old")
    result = {name: value for name, value in trained.result.items() if name != "data_files"}
    (tmp_path / "old" / "result.json").write_text(json.dumps(result))
    Recommender.load(tmp_path / "old")
    assert "does not name the files of its events, so they are not compared" in caplog.text


def test_options_that_change_scores_are_refused_and_places_are_not(trained, tmp_path):
    message = refusal(trained.folder, options={"n_recent_items": 2, "seed": 1, "use_gpu": False})
    assert message.startswith("options n_recent_items, seed would change what the run's scores mean: only data_path, ")
    places = {"summary_store": str(tmp_path / "own.sqlite"), "max_tokens_per_batch": 64, "attention": "plain"}
    recommender = Recommender.load(trained.folder, options=places)
    expected = trained.scores["u3"]
    assert recommender.rank("u3", list(expected)).scores == pytest.approx(expected, abs=1e-5)
    assert (tmp_path / "own.sqlite").is_file()


def test_code_of_a_model_is_run_only_if_said_again(trained, tmp_path):
    folder = with_checkpoint(trained, tmp_path / "run", planted={"trust_remote_code": True})
    assert "options={'trust_remote_code': True}" in refusal(folder)
    Recommender.load(folder, options={"trust_remote_code": True})


def test_options_in_a_checkpoint_from_elsewhere_trust_nothing_and_beat_nothing(trained, tmp_path):
    saved = torch.load(trained.result["checkpoint"], weights_only=True)
    hidden = {name: value for name, value in saved["config"].items() if name != "trust_remote_code"}
    planted = {
        "trust_remote_code": True,
        "LLMTRSR.trust_remote_code": True,
        "LLMTRSR.summary_store": str(tmp_path / "anywhere.sqlite"),
        "LLMTRSR.n_recent_items": 1,
    }
    folder = with_checkpoint(
        trained, tmp_path / "run", config=hidden, given_options={**saved["given_options"], **planted}
    )
    recommender = Recommender.load(folder, options={"summary_store": None})
    settings = recommender._config.settings
    assert settings.backbone.trust_remote_code is False
    assert settings.summary.summary_store is None
    assert settings.prompt.n_recent_items == trained.result["options"]["n_recent_items"]
    expected = trained.scores["u3"]
    assert recommender.rank("u3", list(expected)).scores == pytest.approx(expected, abs=1e-5)
    assert not (tmp_path / "anywhere.sqlite").exists()


def test_histories_and_keys_go_only_where_it_is_said_again(trained, tmp_path):
    server = "openai:m@http://127.0.0.1:9/v1"
    planted = {"summarizer": server, "summarizer_api_key_variable": "HOME"}
    folder = with_checkpoint(trained, tmp_path / "run", planted)
    assert f"options={{'summarizer': '{server}'}}" in refusal(folder)
    recommender = Recommender.load(folder, options={"summarizer": "openai:m@http://127.0.0.1:8/v1"})
    assert recommender._config.settings.summary.summarizer_api_key_variable == "SUMMARIZER_API_KEY"
    assert "writes other summaries than" in refusal(folder, options={"summarizer": "openai:n@http://127.0.0.1:9/v1"})
    assert "writes other summaries than" in refusal(folder, options={"summarizer": "openai:m@x@http://127.0.0.1:9/v1"})
    assert "writes other summaries than" in refusal(trained.folder, options={"summarizer": "file:s.jsonl"})


def test_a_store_outside_of_the_folder_is_written_only_if_said_again(trained, tmp_path):
    store = tmp_path / "elsewhere" / "own.sqlite"
    folder = with_checkpoint(trained, tmp_path / "run", planted={"summary_store": str(store)})
    assert f"keeps what it makes in {store} (summary_store), outside of this folder" in refusal(folder)
    assert not store.exists()
    Recommender.load(folder, options={"summary_store": str(store)})


ASKS = {"model": "evil/model", "written": "{elsewhere}/made"}
READ_WITH = {"text_encoder": {"retriever": "text"}, "vector_dir": {"retriever": "text"}}


@pytest.mark.parametrize("name", NAMING)
def test_no_option_that_names_a_model_or_a_place_is_taken_unasked(trained, tmp_path, monkeypatch, name):
    """Every option that can name one, so that none can be forgotten."""
    monkeypatch.setattr("recbole_llmtrsr.llm.loading.source.hub_fault", pytest.fail)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    value = ASKS.get(NAMING[name], "{elsewhere}/made").format(elsewhere=elsewhere)
    planted = {name: [value] if name == "also_test" else value, **READ_WITH.get(name, {})}
    saved = torch.load(trained.result["checkpoint"], weights_only=True)
    folder = with_checkpoint(
        trained,
        tmp_path / "run",
        planted,
        given_options={**saved["given_options"], **planted, "eval_args": {"mode": "full"}},
    )
    if name in PLACES and NAMING[name] != "read":
        assert f"say so again with options={{'{name}': '{value}'}}" in refusal(folder)
    elif name == "retriever":
        assert "cannot be read (No such file or directory)" in refusal(folder)
    else:
        Recommender.load(folder)
    assert list(elsewhere.iterdir()) == []


def test_what_a_run_does_not_read_is_no_matter(trained, tmp_path):
    planted = {"text_encoder": "evil/model", "vector_dir": "/elsewhere", "text_init": "evil/model"}
    Recommender.load(with_checkpoint(trained, tmp_path / "run", planted=planted))


def test_the_checkpoint_of_another_run_is_refused(trained, train):
    other = train(seed=7)
    message = refusal(trained.folder, checkpoint=other.result["checkpoint"])
    assert f"is of another run than {trained.folder} (seed: 7, not 2020)" in message


def test_loading_changes_neither_random_numbers_nor_trust(trained):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Recommender.load(trained.folder, options={"trust_checkpoint": True})
    assert torch.equal(torch.rand(1), expected)
    assert checkpoints._trusted is False


def test_a_summarizer_that_is_gone_is_told(train, home):
    file = home / "gone.jsonl"
    file.write_text('{"user_id": "u1", "n_events": 2, "summary": "x"}\n')
    run = train(summarizer=f"file:{file}")
    file.unlink()
    assert f"there is no file {file}" in refusal(run.folder)


def test_other_summaries_of_a_file_are_refused_and_the_same_ones_may_move(train, home):
    lines = "".join(
        f'{{"user_id": "u{u}", "n_events": {n}, "summary": "likes {u}"}}\n' for u in range(12) for n in range(1, 10)
    )
    (home / "texts.jsonl").write_text(lines)
    run = train(summarizer="file:texts.jsonl")
    (home / "texts.jsonl").rename(home / "moved.jsonl")
    Recommender.load(run.folder, options={"summarizer": "file:moved.jsonl"})
    (home / "moved.jsonl").write_text(lines.replace("likes", "hates"))
    message = refusal(run.folder, options={"summarizer": "file:moved.jsonl"})
    assert "summarizer 'file:moved.jsonl' holds other summaries than when" in message


def test_command_line_flags_do_not_reach_a_saved_run(trained, monkeypatch):
    monkeypatch.setattr("sys.argv", ["serve", "--n_recent_items=1", "--run=x"])
    expected = trained.scores["u3"]
    assert Recommender.load(trained.folder).rank("u3", list(expected)).scores == pytest.approx(expected, abs=1e-5)


def test_one_of_several_seeds_is_read_back_as_it_was(home, tiny_options):
    options = {**tiny_options, "seeds": [5, 6], "result_dir": str(home / "s")}
    _, folder = compare(["LLMTRSR"], "toy", config_dict=options)
    rankings = [Recommender.load(folder / f"seed-{seed}").rank("u3", ["i1"]).scores for seed in (5, 6)]
    assert rankings[0] != rankings[1]
