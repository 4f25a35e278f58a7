"""On prompts of a real data set, with a model that has learned something: all ways of scoring agree."""

import pytest
import torch
from recbole.utils import init_seed

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.experiment.summary_stage import make_summaries
from recbole_llmtrsr.registry import get_dataset, get_model, get_trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Four epochs on the users of ml-100k with the fewest events; the model and test rows of 336 prompts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("real"))
        options = {"user_inter_num_interval": "[20,22]", "max_train_targets_per_user": 3, "show_progress": False}
        options |= {"use_gpu": False, "state": "WARNING", "eval_batch_size": 336, "learning_rate": 0.01, "epochs": 4}
        config = Config(
            get_model("LLMTRSR"), "ml-100k", [], {**options, "builtin_hidden_size": 64, "builtin_n_layers": 2}
        )
        dataset = get_dataset(get_model("LLMTRSR"))(config)
        loaders, *_ = make_loaders(config, dataset)
        make_summaries(config, dataset, loaders)
        init_seed(3, reproducibility=True)
        model = get_model("LLMTRSR")(config, loaders[0]._dataset)
        get_trainer(get_model("LLMTRSR"))(config, model).fit(loaders[0], None, saved=False)
        return model.eval(), next(iter(loaders[2]))[0]


def test_shared_prefix_plain_and_single_scores_agree_to_1e_4(trained):
    model, rows = trained
    assert len(rows) == 336
    with torch.no_grad():
        shared = model.predict(rows)
        halves = torch.cat([model.predict(rows[:100]), model.predict(rows[100:])])
        singles = torch.cat([model.predict(rows[i : i + 1]) for i in range(0, len(rows), 10)])
        model.backbone.attention = "plain"
        plain = model.predict(rows)
        model.backbone.attention = "flash"
    assert shared.std() > 0.2  # scores that differ: agreement means something
    torch.testing.assert_close(plain, shared, atol=1e-4, rtol=0)
    torch.testing.assert_close(halves, shared, atol=1e-4, rtol=0)
    torch.testing.assert_close(singles, shared[::10], atol=1e-4, rtol=0)
