"""Models and writers of the user's own: registered, they are run as those of the package are."""

from __future__ import annotations

import pytest
import toy
from recbole.model.sequential_recommender.sasrec import SASRec

from recbole_llmtrsr import registry
from recbole_llmtrsr.config import config
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.runs import Run
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.model.sequential_recommender.llmtrsr import LLMTRSR
from recbole_llmtrsr.quick_start import compare, compared_runs
from recbole_llmtrsr.recommend import Recommender
from recbole_llmtrsr.registry import register_model
from recbole_llmtrsr.summarizer.writers import make_writer
from recbole_llmtrsr.summarizer.writers.make_writer import register_writer
from recbole_llmtrsr.training.trainer import LLMTRSRTrainer

SMALL = {**toy.SMALL, "show_progress": False, "epochs": 1, "eval_args": {"mode": "uni2"}, "result_dir": "out"}


class Shifted(LLMTRSR):
    """Another first score for i1, by an option of its own."""

    def predict(self, interaction):
        return super().predict(interaction) + (self.settings_shift * (interaction[self.ITEM_ID] == 1)).to(self.device)

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.settings_shift = float(config["shift"] or 0)


class Plain(LLMTRSR):
    """LLMTRSR by another name."""


class Mine(SASRec):
    """One of RecBole's by another name."""


@pytest.fixture(autouse=True)
def registered_for_one_test(tmp_path, monkeypatch, atomic_folder):
    monkeypatch.chdir(tmp_path)
    for table in ("MODELS", "TRAINERS", "DATASETS"):
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    for names in ("OWN_MODELS", "OWN_OPTIONS"):
        monkeypatch.setattr(config, names, set())
    monkeypatch.setattr(make_writer, "_registered", {})


def runs(models: list[str], **more: object) -> list[Run]:
    return compared_runs(models, "tiny", None, {**SMALL, "data_path": "data", **more})[0]


def test_a_language_model_of_ones_own_has_the_options_trainer_and_data_of_llmtrsr(atomic_folder):
    register_model(Plain)
    assert registry.get_trainer(Plain) is LLMTRSRTrainer
    plain, llmtrsr = runs(["Plain", "LLMTRSR"], **{"Plain.learning_rate": 0.002, "LLMTRSR.learning_rate": 0.002})
    assert plain.result["test_result"] == llmtrsr.result["test_result"]
    assert plain.result["options"]["learning_rate"] == 0.002
    assert plain.result["train_loss"] == llmtrsr.result["train_loss"]


def test_an_option_of_its_own_is_known_and_changes_the_scores(caplog):
    register_model(Shifted, options=["shift"])
    plain, shifted = runs(["Shifted", "Shifted@far"], **{"Shifted@far.shift": 1000.0})
    assert plain.result["test_result"] != shifted.result["test_result"]
    assert "has no effect" not in caplog.text
    with pytest.raises(UserError, match="option 'Shifted.shft' does not exist|option 'shft' does not exist"):
        runs(["Shifted"], **{"Shifted.shft": 1})


def test_a_model_below_one_of_recboles_has_its_property_file(caplog):
    register_model(Mine)
    mine, sasrec = runs(["Mine", "SASRec"], **{"Mine.epochs": 2, "SASRec.epochs": 2})
    assert mine.result["test_result"] == sasrec.result["test_result"]
    assert mine.result["train_loss"] == sasrec.result["train_loss"]
    assert mine.result["options"]["n_heads"] == sasrec.result["options"]["n_heads"] == 2


@pytest.mark.parametrize("name", ["LLMTRSR", "SASRec", "Plain"])
def test_a_name_that_is_taken_is_refused(name):
    register_model(Plain)
    with pytest.raises(UserError, match=f"model '{name}' exists already"):
        register_model(type(name, (LLMTRSR,), {}))


def test_a_model_that_is_not_registered_is_told_how(atomic_folder):
    with pytest.raises(UserError, match="import the file that registers your model before the run"):
        runs(["Elsewhere"])


def test_a_recommender_scores_as_the_test_or_refuses():
    register_model(Plain)
    register_model(Shifted, options=["shift"])
    compare(["Plain", "Shifted"], "tiny", config_dict={**SMALL, "data_path": "data"})
    Recommender.load("out/Plain").rank("six", ["i1", "i9"])
    with pytest.raises(UserError, match="Shifted, which changes predict or rank or log_odds"):
        Recommender.load("out/Shifted")


class Titles:
    name = "titles"

    def __init__(self, item_text):
        self.n = 0

    def settings(self, kind, attempt=0):
        return {"writer": "titles"}

    def wording(self, kind):
        return ()

    def run(self, jobs):
        for place, job in enumerate(jobs):
            self.n += 1
            words = [*job.inputs, *(value for item in job.items for _, value in item.fields)]
            yield [(place, GeneratedText(" ".join(words)))]

    def count_tokens(self, text):
        return 0

    def report(self):
        return {"texts": self.n}


def test_a_writer_of_ones_own_writes_and_is_the_runs_own():
    register_writer("titles", Titles)
    (run,) = runs(["LLMTRSR"], summarizer="titles", block_size=2, n_recent_items=4)
    assert run.result["summaries"]["texts"] == run.result["summaries"]["made"] > 0
    with pytest.raises(UserError, match="writes other summaries than 'titles'"):
        Recommender.load("out", options={"summarizer": "organisation/model"})
    assert set(Recommender.load("out").rank("six", ["i1", "i9"]).scores) == {"i1", "i9"}


@pytest.mark.parametrize("name", ["titles", "extractive", "a/b", "A", "file:x", ""])
def test_a_writers_name_is_a_word_that_is_not_taken(name):
    register_writer("titles", Titles)
    with pytest.raises(UserError, match="cannot be registered: choose a name of lower-case letters"):
        register_writer(name, Titles)


def test_a_writer_of_the_version_before_finds_its_types_and_is_told_their_names(caplog):
    from recbole_llmtrsr.summarizer import jobs

    assert (jobs.Answer, jobs.Failure) == (GeneratedText, GenerationFailure)
    assert "jobs.Answer is now called recbole_llmtrsr.llm.generators.generation.GeneratedText" in caplog.messages[0]
