"""RecBole 1.2.1 on today's NumPy, pandas, SciPy and torch: small patches, each gone where it is not needed.

Call `apply` before the first RecBole `Config` is built; it makes each patch once. A Config of this package calls it.
No patch imports ray.
"""

from __future__ import annotations

import csv
import importlib
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config as RecBoleConfig
from scipy.sparse import dok_matrix

import recbole_llmtrsr
from recbole_llmtrsr.runtime.checkpoints import load_checkpoint, save_checkpoint

_REMOVED_NUMPY_NAMES = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "bool8": np.bool_}

_SINE = "recbole.model.sequential_recommender.sine"

_applied: set[str] = set()


class _Overlay:
    """A module as one other module sees it: the original, except for the attributes in ``overrides``."""

    def __init__(self, module: ModuleType, **overrides: Any) -> None:
        self.__dict__.update(overrides)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Later:
    """A module that is imported when its first attribute is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


def restore_numpy_names() -> bool:
    """NumPy >= 2: give back `float_`, `complex_` and `unicode_`, which `Config.compatibility_settings` reads.

    Likewise `bool8`, which ray 2.6 reads, the latest that RecBole accepts.
    Every other removed name that RecBole uses (`np.float`, `np.bool`, `np.long`, ...) is set by that method itself.
    """
    missing = [name for name in _REMOVED_NUMPY_NAMES if not hasattr(np, name)]
    for name in missing:
        setattr(np, name, _REMOVED_NUMPY_NAMES[name])
    return bool(missing)


def restore_dok_update() -> bool:
    """SciPy >= 1.13: give back `dok_matrix._update`, with which seven graph models fill their adjacency matrix.

    They are SpectralCF, GCMC, LightGCN, NGCF, NCL, KGIN and MCCLK. The method takes the entries as they are; the
    public `update` refuses them.
    """
    if hasattr(dok_matrix, "_update"):
        return False

    def _update(self: Any, data: dict[tuple[int, int], float]) -> None:
        self._dict.update(data)

    dok_matrix._update = _update
    return True


def read_atomic_files_verbatim() -> bool:
    """All versions: read atomic files without quoting; pandas >= 3: and without missing values in sequence columns.

    RecBole's atomic format defines no quoting, yet `Dataset._load_feat` reads it with pandas' default: one field that
    begins with a double quote swallows the rows up to the next one. And its `df[field].fillna("", inplace=True)`, which
    turns missing sequences into empty ones, does nothing under copy-on-write (pandas >= 3), so that a missing title
    crashes. Both are mended where the file is read.

    What stays RecBole's: a token "NA", "null", "None" or the like counts as missing, as pandas has it, so a row with
    such a user or item id is dropped, with RecBole's warning. Reading them as ids would make other splits than RecBole.
    """
    from recbole.data.dataset import dataset

    def read_csv(*args: Any, **kwargs: Any) -> pd.DataFrame:
        frame = pd.read_csv(*args, **{**kwargs, "quoting": csv.QUOTE_NONE})
        sequences = [column for column in frame.columns if str(column).endswith("seq")]
        frame[sequences] = frame[sequences].fillna("")
        return frame

    dataset.pd = _Overlay(pd, read_csv=read_csv)
    # RecBole's fillna, which has nothing to do now, still makes pandas >= 3 warn at every file.
    category = getattr(pd.errors, "ChainedAssignmentError", None)
    if category is not None:
        warnings.filterwarnings("ignore", category=category, module=r"recbole\.data\.dataset\.dataset$")
    # It hands pandas' read-only arrays to torch, and writes to none of them.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable", module=r"recbole\.data")
    return True


def fill_missing_values() -> bool:
    """pandas >= 3: `Dataset._fill_nan` by assignment, since the chained in-place `fillna` no longer reaches the frame.

    The meaning is RecBole's: 0 (padding) for tokens, the mean of the known values for floats, empty for sequences.
    """
    from recbole.data.dataset.dataset import Dataset
    from recbole.utils import FeatureType

    if _pandas_major() < 3:
        return False

    def _fill_nan(self: Any) -> None:
        for feat_name in self.feat_name_list:
            feat = getattr(self, feat_name)
            for field in feat:
                ftype = self.field2type[field]
                if ftype == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0)
                elif ftype == FeatureType.FLOAT:
                    feat[field] = feat[field].fillna(feat[field].mean())
                else:
                    empty = np.array([], dtype=np.int64 if ftype == FeatureType.TOKEN_SEQ else np.float64)
                    feat[field] = [empty if isinstance(value, float) else value for value in feat[field]]

    Dataset._fill_nan = _fill_nan
    return True


def measure_sequences_one_by_one() -> bool:
    """pandas >= 3: `Series.agg(len)` again gives the length of each sequence, not of the series.

    `_remap`, `_normalize`, `_discretization`, `_reset_ent_remapID` and `_benchmark_presets` split or count sequence
    fields by it. `agg` now hands the whole series to the function, so the three modules get a `len` that looks inside;
    nowhere else do they take the length of a series.
    """
    from recbole.data.dataset import dataset, kg_dataset, sequential_dataset

    if _pandas_major() < 3:
        return False

    def len_of_each(values: Any) -> Any:
        return values.map(len) if isinstance(values, pd.Series) else len(values)

    for module in (dataset, kg_dataset, sequential_dataset):
        module.len = len_of_each
    return True


def load_own_checkpoints() -> bool:
    """All versions: un-pickle the checkpoints that this process wrote, and no others.

    RecBole's checkpoints pickle the whole Config; torch >= 2.6 refuses to load that, older versions run whatever a
    file contains. A file counts as our own by the SHA-256 of its content, so replacing it never passes, and moving or
    copying it does no harm. Any other file may hold tensors and plain values only, unless `trust_checkpoints` says so.
    """
    from recbole.trainer import trainer

    trainer.torch = _Overlay(torch, save=save_checkpoint, load=load_checkpoint)
    return True


def keep_anomaly_detection_off() -> bool:
    """All versions: importing RecBole's sequential models turns autograd's anomaly detection on (SINE's file does).

    It is a debugging mode for the whole process that makes every training step slower. If the file was imported before,
    the user need not have wanted the mode that is on, so it is turned off in that case too.
    """
    wanted = torch.is_anomaly_enabled() and _SINE not in sys.modules
    importlib.import_module(_SINE)
    torch.autograd.set_detect_anomaly(wanted)
    return True


def count_every_event_in_pop() -> bool:
    """All versions: let `Pop` count an item as often as users chose it.

    RecBole's `item_cnt[item] = item_cnt[item] + 1` counts it once a batch, so its popularity depends on the batch size
    and on the shuffle (on ml-100k MRR@10 falls from 0.41 to 0.22 between batches of 2,048 and 8,192); and it counts the
    sampled negatives too.
    """
    from recbole.model.general_recommender.pop import Pop

    make = Pop.__init__

    def make_with_label(self: Any, config: Any, dataset: Any) -> None:
        make(self, config, dataset)
        self.label_field = config["LABEL_FIELD"]

    def calculate_loss(self: Any, interaction: Any) -> torch.Tensor:
        items = interaction[self.ITEM_ID]
        if self.label_field in interaction:
            items = items[interaction[self.label_field] > 0]
        self.item_cnt.index_add_(0, items, torch.ones_like(items)[:, None])
        self.max_cnt = torch.max(self.item_cnt, dim=0)[0]
        return torch.zeros(1, device=self.device, requires_grad=True)

    Pop.__init__, Pop.calculate_loss = make_with_label, calculate_loss
    return True


def draw_with_a_generator() -> bool:
    """All versions: let RecBole's exhaustive search draw as hyperopt >= 0.2.6 does, from NumPy's `Generator`.

    It makes a `RandomState`, which lacks the method `integers` that hyperopt calls.
    """
    from recbole.trainer import hyper_tuning

    hyper_tuning.np = _Overlay(np, random=_Overlay(np.random, RandomState=np.random.default_rng))
    return True


def keep_ids_as_long_as_they_are() -> bool:
    """All versions: keep the ids of users and items as objects, each as long as it is.

    RecBole keeps them in NumPy's arrays of texts, where every element has the room of the longest one: an id of 3,000
    characters among 100,000 takes 1.1 GiB; and where a knowledge graph's entities are called by their items' names,
    longer names are cut.
    """
    from recbole.data.dataset import dataset

    def array(values: Any, *args: Any, **kwargs: Any) -> Any:
        is_text = isinstance(values, list) and bool(values) and isinstance(values[0], str)
        return np.array(values, *args, **{"dtype": object, **kwargs} if is_text else kwargs)

    dataset.np = _Overlay(np, array=array)
    return True


def import_quick_start_without_ray() -> bool:
    """All versions: import `recbole.quick_start` without ray, which only its `objective_function` uses.

    ray 2.6, the latest that RecBole accepts, needs a setuptools below 81 and takes seconds to import. It is imported
    when that function reports to it.
    """
    if "recbole.quick_start" in sys.modules:
        return False
    ray = ModuleType("ray")
    ray.tune = _Later("ray.tune")  # type: ignore[attr-defined]
    before = sys.modules.get("ray")
    sys.modules["ray"] = ray
    try:
        importlib.import_module("recbole.quick_start")
    finally:
        del sys.modules["ray"]
        if before is not None:
            sys.modules["ray"] = before
    return True


def load_checkpoints_of_both_kinds() -> bool:
    """All versions: let `recbole.quick_start.load_data_and_model` load checkpoints of RecBole's runs and of those here.

    It calls `torch.load`, which refuses RecBole's checkpoints from version 2.6 on. A file that another process wrote
    needs trust: `recbole_llmtrsr.load_data_and_model(file, {"trust_checkpoint": True})`.
    """
    module = importlib.import_module("recbole.quick_start.quick_start")
    load_as_recbole = module.load_data_and_model

    def load_data_and_model(model_file: str) -> Any:
        checkpoint = load_checkpoint(model_file)
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("config"), RecBoleConfig):
            return recbole_llmtrsr.load_data_and_model(model_file)
        load = torch.load
        torch.load = lambda *_, **__: checkpoint
        try:
            return load_as_recbole(model_file)
        finally:
            torch.load = load

    for place in (module, sys.modules["recbole.quick_start"]):
        place.load_data_and_model = load_data_and_model  # type: ignore[attr-defined]
    return True


PATCHES: tuple[Callable[[], bool], ...] = (
    restore_numpy_names,
    restore_dok_update,
    read_atomic_files_verbatim,
    fill_missing_values,
    measure_sequences_one_by_one,
    load_own_checkpoints,
    keep_anomaly_detection_off,
    count_every_event_in_pop,
    draw_with_a_generator,
    keep_ids_as_long_as_they_are,
    import_quick_start_without_ray,
    load_checkpoints_of_both_kinds,
)


def apply() -> tuple[str, ...]:
    """Apply the patches that the installed versions need, once; returns the names of all in force, by `PATCHES`."""
    # Its trainers name torch's scaler of gradients by an earlier place, of which torch warns at every epoch.
    warnings.filterwarnings("ignore", category=FutureWarning, message=r"`torch\.cuda\.amp", module=r"recbole\.trainer")
    for patch in PATCHES:
        if patch.__name__ not in _applied and patch():
            _applied.add(patch.__name__)
    return tuple(patch.__name__ for patch in PATCHES if patch.__name__ in _applied)


def _pandas_major() -> int:
    return int(pd.__version__.split(".")[0])
