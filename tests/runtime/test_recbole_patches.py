"""Each patch against the host itself: what RecBole does without it, and what it does with it, on the installed stack.

One subprocess shows the host before and after `apply`, since the patches cannot be taken back; the rest runs in place.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy
import torch
from recbole.trainer import HyperTuning

import recbole_llmtrsr
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime import recbole_patches


def _at_least(version: str, *wanted: int) -> bool:
    return tuple(int(part) for part in version.split(".")[:2]) >= wanted


NUMPY_2 = _at_least(np.__version__, 2, 0)
PANDAS_3 = _at_least(pd.__version__, 3, 0)
SCIPY_1_13 = _at_least(scipy.__version__, 1, 13)
TORCH_2_6 = _at_least(torch.__version__, 2, 6)

SERVED = {
    "restore_numpy_names": NUMPY_2,
    "restore_dok_update": SCIPY_1_13,
    "read_atomic_files_verbatim": True,
    "fill_missing_values": PANDAS_3,
    "measure_sequences_one_by_one": PANDAS_3,
    "load_own_checkpoints": True,
    "keep_anomaly_detection_off": True,
    "count_every_event_in_pop": True,
    "draw_with_a_generator": True,
    "keep_ids_as_long_as_they_are": True,
    "import_quick_start_without_ray": True,
    "load_checkpoints_of_both_kinds": True,
}

SHOW_THE_HOST = r"""
import json, logging, sys, warnings
from types import SimpleNamespace
import numpy as np, pandas as pd, torch
import recbole.config, recbole.data, recbole.model, recbole.trainer, recbole.utils
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.model.general_recommender.lightgcn import LightGCN
from recbole.trainer import trainer
from recbole.utils import FeatureSource, FeatureType
from scipy.sparse import coo_matrix

def plain(value):
    if isinstance(value, (list, np.ndarray, pd.Series)):
        return [plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value

def outcome(case):
    try:
        return plain(case())
    except Exception as error:
        return type(error).__name__

def dataset(kind=Dataset, **fields):
    made = kind.__new__(kind)
    made.config = {"load_col": None, "unload_col": None, "field_separator": "\t", "seq_separator": " ",
                   "encoding": "utf-8", "seq_len": None, "LIST_SUFFIX": "_list"}
    made.logger = logging.getLogger("quiet")
    made.field2source, made.field2type, made.field2seqlen, made.field2bucketnum = {}, {}, {}, {}
    made.field2id_token, made.field2token_id = {}, {}
    made.__dict__.update(fields)
    return made

def read(name, rows):
    with open(name, "w", encoding="utf-8") as file:
        file.write("item_id:token\tyear:token\tprice:float\ttitle:token_seq\tvector:float_seq\n" + rows)
    return dataset()._load_feat(name, FeatureSource.ITEM)

def quotes():
    frame = read("quotes.item", '1\t1990\t1\t"Once open\t\n2\t1991\t2\tSays "hi"\t\n3\t1992\t3\t"Closed"\t\n')
    return [" ".join(title) for title in frame["title"]]

def missing():
    frame = read("missing.item", "1\t\t\t\t\n2\t1991\t2.5\tTwo words\t1 2\n")
    return [[plain(values.isnull().tolist()) for values in (frame["year"], frame["price"])],
            frame["title"].tolist(), frame["vector"].tolist()]

def missing_ids():
    frame = read("ids.item", "".join(f"{item}\t1990\t1\tAny\t1\n" for item in ("NA", "null", "None", "nil", "7")))
    made = dataset(uid_field=None, iid_field="item_id", user_feat=None, item_feat=frame, inter_feat=frame.copy())
    made._filter_nan_user_or_item()
    return made.inter_feat["item_id"].tolist()

def fill():
    frame = pd.DataFrame({"year": [1.0, np.nan], "price": [1.0, np.nan]})
    made = dataset(feat_name_list=["item_feat"], item_feat=frame)
    made.field2type = {"year": FeatureType.TOKEN, "price": FeatureType.FLOAT}
    frame.loc[2] = [2.0, 4.0]
    made._fill_nan()
    return [frame["year"].tolist(), frame["price"].tolist()]

def remap():
    frame = pd.DataFrame({"title": [np.array(["a", "b"]), np.array(["c"]), np.array(["a"])]})
    dataset()._remap([(frame, "title", FeatureType.TOKEN_SEQ)])
    return frame["title"].tolist()

def lengths():
    frame = pd.DataFrame({"item_id_list": [np.array([5, 6]), np.array([7])]})
    made = dataset(SequentialDataset, inter_feat=frame, item_list_length_field="item_length")
    made.item_id_list_field = "item_id_list"
    made._benchmark_presets()
    return frame["item_length"].tolist()

def graph():
    made = SimpleNamespace(n_users=2, n_items=2)
    made.interaction_matrix = coo_matrix(([1.0, 1.0, 1.0], ([0, 0, 1], [0, 1, 1])), shape=(2, 2))
    return np.round(LightGCN.get_norm_adj_mat(made).to_dense().numpy().astype(float), 4).tolist()

def popularity():
    from recbole.model.general_recommender.pop import Pop
    fields = {"USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item", "NEG_PREFIX": "neg_", "LABEL_FIELD": "y"}
    counting = Pop({**fields, "device": "cpu"}, SimpleNamespace(num=lambda field: 4))
    counting.calculate_loss({"item": torch.tensor([1, 2, 1, 1, 3]), "y": torch.tensor([1, 1, 1, 1, 0])})
    counting.calculate_loss({"item": torch.tensor([2])})
    return counting.item_cnt[:, 0].tolist()

def checkpoint():
    trainer.torch.save({"config": SimpleNamespace(model="BPR"), "epoch": 3}, "own.pth", pickle_protocol=4)
    return trainer.torch.load("own.pth", map_location="cpu")["config"].model

def draw():
    from recbole.trainer import hyper_tuning
    return hyper_tuning.np.random.RandomState(1).integers(7, 8)

def cases():
    with warnings.catch_warnings(record=True) as caught:
        shown = {
            "settings": outcome(lambda: recbole.config.Config.compatibility_settings(None)),
            "quotes": outcome(quotes), "missing": outcome(missing), "missing_ids": outcome(missing_ids),
            "fill": outcome(fill), "remap": outcome(remap), "lengths": outcome(lengths),
            "graph": outcome(graph), "checkpoint": outcome(checkpoint), "popularity": outcome(popularity),
            "draw": outcome(draw),
        }
    shown["chained"] = any(warning.category.__name__ == "ChainedAssignmentError" for warning in caught)
    return shown

before = cases()
from recbole_llmtrsr.runtime import recbole_patches
applied, again = recbole_patches.apply(), recbole_patches.apply()
print(json.dumps({"before": before, "after": cases(), "applied": applied, "again": again, "ray": "ray" in sys.modules}))
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the host did before and after `apply`."""
    root = Path(recbole_patches.__file__).parents[2]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", SHOW_THE_HOST],
        cwd=tmp_path_factory.mktemp("host"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_patches_in_force_are_those_that_the_installed_versions_need(host: dict[str, Any]) -> None:
    assert host["applied"] == [name for name, needed in SERVED.items() if needed]
    assert host["again"] == host["applied"]


def test_a_patch_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def patch() -> bool:
        made.append(1)
        return True

    monkeypatch.setattr(recbole_patches, "PATCHES", (patch,))
    monkeypatch.setattr(recbole_patches, "_applied", set())
    assert recbole_patches.apply() == recbole_patches.apply() == ("patch",)
    assert len(made) == 1


def test_no_part_of_recbole_that_the_plugin_uses_imports_ray(host: dict[str, Any]) -> None:
    assert host["ray"] is False


ALL_TITLES = ['"Once open', 'Says "hi"', '"Closed"']
MISSING_KEPT = [[[True, False], [True, False]], [[], ["Two", "words"]], [[], [1.0, 2.0]]]
ADJACENCY = [[0.0, 0.0, 0.7071, 0.5], [0.0, 0.0, 0.0, 0.7071], [0.7071, 0.0, 0.0, 0.0], [0.5, 0.7071, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("case", "affected", "bare", "patched"),
    [
        ("settings", NUMPY_2, "AttributeError", None),
        ("graph", SCIPY_1_13, "AttributeError", ADJACENCY),
        ("missing", PANDAS_3, "AttributeError", MISSING_KEPT),
        ("fill", PANDAS_3, [[1.0, None, 2.0], [1.0, None, 4.0]], [[1.0, 0.0, 2.0], [1.0, 2.5, 4.0]]),
        ("remap", PANDAS_3, "ValueError", [[1, 2], [3], [1]]),
        ("lengths", PANDAS_3, [2, 2], [2, 1]),
        ("checkpoint", TORCH_2_6, "UnpicklingError", "BPR"),
        ("chained", PANDAS_3, True, False),
        ("popularity", True, [0, 1, 2, 1], [0, 3, 2, 0]),
        ("draw", True, "AttributeError", 7),
    ],
)
def test_the_host_fails_bare_where_a_patch_serves_and_works_with_it(
    host: dict[str, Any], case: str, affected: bool, bare: Any, patched: Any
) -> None:
    shown = json.loads(json.dumps(host["before"][case]), parse_constant=lambda _: None)
    assert shown == (bare if affected else patched)
    assert host["after"][case] == patched


def test_a_double_quote_in_a_title_no_longer_swallows_the_rows_after_it(host: dict[str, Any]) -> None:
    assert host["before"]["quotes"] != ALL_TITLES
    assert host["after"]["quotes"] == ALL_TITLES


def test_ids_that_read_as_missing_are_dropped_as_recbole_drops_them(host: dict[str, Any]) -> None:
    assert host["before"]["missing_ids"] == host["after"]["missing_ids"] == ["nil", "7"]


def test_only_the_host_sees_the_patched_torch_and_pandas() -> None:
    recbole_patches.apply()
    from recbole.data.dataset import dataset
    from recbole.trainer import trainer

    assert trainer.torch.load is not torch.load
    assert trainer.torch.tensor is torch.tensor
    assert torch.load.__module__ == "torch.serialization"
    assert dataset.pd.read_csv is not pd.read_csv
    assert dataset.pd.concat is pd.concat
    assert pd.read_csv.__module__.startswith("pandas")


def test_recbole_reads_trains_saves_and_evaluates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recbole_patches.apply()
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    # RecBole reads flags from sys.argv and writes below the current folder.
    monkeypatch.setattr(sys, "argv", ["test"])
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "tiny"
    folder.mkdir()
    events = [f"u{user}\ti{(user + step) % 9}\t{step}\n" for user in range(6) for step in range(5)]
    (folder / "tiny.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(events))
    titles = ["", '"Open', "Plain words", *(f"Title {item}" for item in range(3, 9))]
    rows = [f"i{item}\t{title}\t{'' if item == 4 else item}\n" for item, title in enumerate(titles)]
    (folder / "tiny.item").write_text("item_id:token\ttitle:token_seq\tprice:float\n" + "".join(rows))
    settings = {
        **{"data_path": str(tmp_path), "use_gpu": False, "state": "ERROR", "show_progress": False},
        **{"epochs": 1, "embedding_size": 4, "eval_args": {"mode": "uni5"}},
        **{"topk": [3], "metrics": ["Recall"], "valid_metric": "Recall@3"},
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title", "price"]},
    }
    config = Config(model="LightGCN", dataset="tiny", config_dict=settings)
    init_seed(1, True)
    dataset = create_dataset(config)
    items = dataset.item_feat
    read = {
        item: [str(word) for word in dataset.id2token("title", words)]
        for item, words in zip(dataset.id2token("item_id", items["item_id"].values), items["title"], strict=True)
    }
    assert (read["i0"], read["i1"], read["i2"], read["i8"]) == ([], ['"Open'], ["Plain", "words"], ["Title", "8"])
    train_data, valid_data, _ = data_preparation(config, dataset)
    model = get_model("LightGCN")(config, train_data._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "LightGCN")(config, model)
    trainer.fit(train_data, valid_data, saved=True, show_progress=False)
    best = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model.user_embedding.weight.zero_()
    result = trainer.evaluate(valid_data, load_best_model=True)
    assert 0.0 <= result["recall@3"] <= 1.0
    assert all(torch.equal(model.state_dict()[name], value) for name, value in best.items())


def test_recboles_sequential_models_leave_anomaly_detection_on_and_the_patch_turns_it_off() -> None:
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            "import torch, recbole.model.sequential_recommender; print(torch.is_anomaly_enabled())\n"
            "from recbole_llmtrsr.runtime.recbole_patches import apply; apply(); print(torch.is_anomaly_enabled())\n"
            "torch.autograd.set_detect_anomaly(True); apply(); print(torch.is_anomaly_enabled())",
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert shown.stdout.split() == ["True", "False", "True"]  # what the user turns on later stays on


def test_recboles_search_tries_every_point() -> None:
    recbole_patches.apply()
    tried = []

    def objective(config_dict: dict[str, Any], config_file_list: Any) -> dict[str, Any]:
        tried.append(config_dict["learning_rate"])
        score = config_dict["learning_rate"]
        found = {key: {"mrr@3": score} for key in ("best_valid_result", "test_result")}
        return {"model": "Pop", "best_valid_score": score, "valid_score_bigger": True, **found}

    points = {"choice": {"learning_rate": [0.1, 0.3, 0.2]}}
    search = HyperTuning(objective, algo="exhaustive", params_dict=points, max_evals=3)
    search.run()
    assert sorted(tried) == [0.1, 0.2, 0.3]
    assert search.best_params == {"learning_rate": 0.3}


RECBOLE_LOADS_ITS_RUN = """
import logging, sys
from recbole_llmtrsr.runtime import recbole_patches
recbole_patches.apply()
assert "ray" not in sys.modules
from recbole.quick_start import load_data_and_model, run_recbole
sys.argv = sys.argv[:1]
options = {"data_path": "data", "use_gpu": False, "state": "ERROR", "show_progress": False, "epochs": 1,
           "embedding_size": 4, "eval_args": {"mode": "uni2"}, "checkpoint_dir": "saved",
           "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
result = run_recbole("BPR", "tiny", config_dict=options)
import glob
(file,) = glob.glob("saved/*.pth")
config, model, dataset, train, valid, test = load_data_and_model(file)
from recbole.utils import get_trainer
found = get_trainer(config["MODEL_TYPE"], config["model"])(config, model).evaluate(test, load_best_model=False)
print(type(model).__name__, dataset.item_num, len(train._dataset) > 0, sorted(found) == sorted(result["test_result"]))
"""


def test_recbole_loads_the_data_and_model_of_its_own_run_and_of_runs_here(
    atomic_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = subprocess.run(
        [sys.executable, "-c", RECBOLE_LOADS_ITS_RUN],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert shown.stdout.splitlines()[-1:] == ["BPR 10 True True"], shown.stderr
    (file,) = (tmp_path / "saved").glob("*.pth")
    recbole_patches.apply()
    from recbole.quick_start import load_data_and_model

    with pytest.raises(UserError, match="was not written by this run .* set trust_checkpoint: True"):
        load_data_and_model(str(file))
    monkeypatch.setattr(sys, "argv", ["test"])
    loaded = recbole_llmtrsr.load_data_and_model(file, {"trust_checkpoint": True})
    assert type(loaded.model).__name__ == "BPR"

    options = {"data_path": str(atomic_folder), "use_gpu": False, "eval_args": {"mode": "uni2"}, "embedding_size": 4}
    ((result,), _) = recbole_llmtrsr.compare(["BPR"], "tiny", config_dict={**options, "epochs": 1})
    _, model, dataset, *_ = load_data_and_model(result["checkpoint"])
    assert (type(model).__name__, dataset.item_num) == ("BPR", 10)
