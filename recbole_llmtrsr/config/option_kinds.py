"""Options by kind. The package's options declare their kinds in ``options``; those of RecBole are listed here."""

from __future__ import annotations

from collections.abc import Mapping

from recbole_llmtrsr.config.settings import all_options

_OF_RECBOLE: Mapping[str, tuple[str, ...]] = {
    # See ``options.Kind``.
    "free": ("checkpoint_dir", "data_path", "gpu_id", "show_progress", "state"),
    "seed": (
        *("seed", "use_gpu", "device", "worker", "eval_batch_size", "log_wandb", "wandb_project", "metrics", "topk"),
    ),
    "place": ("data_path", "use_gpu", "gpu_id"),
    # Options that make a run write files or send data to a server.
    "writes": (
        *("checkpoint_dir", "dataloaders_save_path", "dataset_save_path", "log_wandb"),
        *("save_dataloaders", "save_dataset"),
    ),
    # Options in which the models of a comparison may differ: columns of users and items, names of columns that RecBole
    # makes, rows per scoring batch, metrics, and the choice of the best epoch.
    "model": (
        *("load_col", "unload_col", "unused_col", "additional_feat_suffix", "preload_weight", "seq_len"),
        *("NEG_PREFIX", "ITEM_LIST_LENGTH_FIELD", "LIST_SUFFIX", "MAX_ITEM_LIST_LENGTH", "POSITION_FIELD"),
        *("HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "ENTITY_ID_FIELD"),
        *("alias_of_entity_id", "alias_of_relation_id"),
        *("eval_batch_size", "metrics", "topk", "valid_metric", "valid_metric_bigger", "metric_decimal_place"),
    ),
    # Options of rating prediction, without effect in a ranking.
    "labels": ("threshold", "LABEL_FIELD", "RATING_FIELD", "normalize_field", "normalize_all"),
    # Options that the type of the model determines.
    "model type": ("repeatable",),
    # Without effect on RecBole's TRADITIONAL models (Pop, ItemKNN, EASE), which are fitted in one pass.
    "gradients": ("epochs", "stopping_step", "learner", "learning_rate", "weight_decay", "clip_grad_norm"),
    # Options that RecBole reads but does not list.
    "undeclared": (
        *("encoding", "nproc", "ip", "port", "world_size", "offset", "local_rank", "save_step", "eta", "ft_ratio"),
    ),
    # Read by a model (FEARec, HRM) whose property file does not list them.
    "unlisted": ("tau", "reg_weight"),
    # Read by a transform.
    "transform": ("mask_ratio", "ft_ratio", "eta", "beta"),
    # Options whose value names columns: a list, the keys of a mapping, or one name.
    "columns": (
        *("val_interval", "threshold", "normalize_field", "numerical_features", "discretization"),
        *("alias_of_user_id", "alias_of_item_id"),
    ),
    "columns of models": ("selected_features", "item_attribute"),  # other models of a comparison may not read them
    "columns of numbers": ("threshold", "numerical_features", "discretization"),
}


def options_of(kind: str) -> tuple[str, ...]:
    """Names of the options of a kind, RecBole's first.

    Raises:
        KeyError: no such kind.

    >>> options_of("labels")
    ('threshold', 'LABEL_FIELD', 'RATING_FIELD', 'normalize_field', 'normalize_all')
    """
    return (*_OF_RECBOLE[kind], *(spec.name for _, spec, _ in all_options() if kind in spec.metadata["kinds"]))
