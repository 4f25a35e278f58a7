"""A trained run that answers: rankings, recommendations and explanations for any history, known or given by hand."""

from recbole_llmtrsr.recommend.queries import Query
from recbole_llmtrsr.recommend.ranking import RankedItem, Ranking
from recbole_llmtrsr.recommend.recommender import Recommender
from recbole_llmtrsr.recommend.trained_model import LoadedRun, load_data_and_model, load_run

__all__ = ["LoadedRun", "Query", "RankedItem", "Ranking", "Recommender", "load_data_and_model", "load_run"]
