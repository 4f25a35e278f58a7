"""Rankings, recommendations and explanations of a trained run, for users of the data set and for new histories."""

from recbole_llmtrsr.recommend.queries import Query
from recbole_llmtrsr.recommend.ranking import RankedItem, Ranking
from recbole_llmtrsr.recommend.recommender import Recommender
from recbole_llmtrsr.recommend.trained_model import LoadedRun, load_data_and_model, load_run

__all__ = ["LoadedRun", "Query", "RankedItem", "Ranking", "Recommender", "load_data_and_model", "load_run"]
