"""The thin public functions around the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from logging import getLogger
from pathlib import Path
from statistics import fmean
from typing import Any

from recbole_llmtrsr.config.checks import unread_options
from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.options import EvaluationSettings
from recbole_llmtrsr.config.sources import Command, call_text, model_options, option_from_sources
from recbole_llmtrsr.data.frames import Dataset
from recbole_llmtrsr.data.loaders.full_ranking import excludes_seen
from recbole_llmtrsr.data.location import file_digests
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, make_comparison
from recbole_llmtrsr.evaluation.comparison.runs import ALSO, Run, load_run
from recbole_llmtrsr.evaluation.comparison.shared_rows import protocol_faults
from recbole_llmtrsr.evaluation.comparison.tables import write_comparison
from recbole_llmtrsr.evaluation.result import versions
from recbole_llmtrsr.experiment.compared import Compared
from recbole_llmtrsr.experiment.evaluation_stage import folder_name
from recbole_llmtrsr.experiment.fit import STATES, remove_states
from recbole_llmtrsr.experiment.pipeline import checked_config, run_pipeline
from recbole_llmtrsr.experiment.rehearsal import rehearse
from recbole_llmtrsr.experiment.result_folder import MadeFolders, check_folders, remove_unfinished, result_folder
from recbole_llmtrsr.experiment.retrieval_stage import faults_of_retrievers, with_retriever
from recbole_llmtrsr.experiment.run_file import RunFile
from recbole_llmtrsr.model.language_model_recommender import reads_candidates
from recbole_llmtrsr.recommend import load_data_and_model
from recbole_llmtrsr.report import write_report
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.screen import on_screen
from recbole_llmtrsr.summarizer.run_record import RunRecord

__all__ = ["compare", "compared_runs", "load_data_and_model", "objective_function", "run_recbole_llmtrsr"]

_EXAMPLES = {"model": "LLMTRSR", "dataset": "ml-100k"}
_OF_ONE = ("device", "show_progress", "log_wandb")  # options that differ between processes


def run_recbole_llmtrsr(
    model: str | None = None,
    dataset: str | Dataset | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """Train and evaluate one model, ours or RecBole's.

    Args:
        model: model name; None takes it from the dictionary or the files.
        dataset: name of a data set, or a `Dataset` made of DataFrames; None as for the model.
        config_file_list: property files.
        config_dict: options by name, which are stronger than the files.
        saved: keep the best checkpoint and test with it.

    Returns:
        RecBole's ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result``, means over
        the ``seeds`` (None each with ``summarize_only`` or ``dry_run``), and ``folder``, which holds the results (None
        after a dry run).

    Raises:
        UserError: a fault in the user's input.

    Examples:
        >>> found = run_recbole_llmtrsr("LLMTRSR", "ml-100k", config_dict={"epochs": 1})  # doctest: +SKIP
        >>> found["test_result"]["ndcg@10"], found["folder"]  # doctest: +SKIP
    """
    name = _required("model", model, config_file_list, config_dict)
    call = _call("run_recbole_llmtrsr", {"model": model}, dataset, config_file_list, config_dict, saved)
    runs, _, folder = compared_runs([name], dataset, config_file_list, config_dict, saved, call)
    results = [run.result for run in runs]
    scores = [result["best_valid_score"] for result in results if result.get("best_valid_score") is not None]
    return {
        "best_valid_score": fmean(scores) if scores else None,
        "valid_score_bigger": results[0].get("valid_score_bigger"),
        **{key: _mean_metrics([result.get(key) for result in results]) for key in ("best_valid_result", "test_result")},
        "folder": folder if folder.is_dir() else None,
    }


def compare(
    models: Sequence[str],
    dataset: str | Dataset | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
) -> Compared:
    """Train and evaluate several models in turn, each with all ``seeds``, on one split and one candidate set.

    Args:
        models: names, or 'Model@variant' for one model under several options (``LLMTRSR@recurrent.summary``).
        dataset: name of a data set, or a `Dataset` made of DataFrames; None takes the name from the dictionary or the
            files.
        config_file_list: property files.
        config_dict: options by name, which are stronger than the files.
        saved: keep the best checkpoints and test with them.

    Returns:
        the results, which unpack as the content of every run's result.json, by model and seed, and the folder that
        holds them and the comparison. A notebook shows its table; ``to_pandas()`` and ``per_history()`` make
        DataFrames. With ``dry_run`` the results hold the ``summary_cost`` in words, and there is no folder.

    Raises:
        UserError: a fault in the user's input; runs that ended before it keep their results.
        MainProcessError: in another one of several processes, when the main one ended with an error.

    Examples:
        >>> compared = compare(["LLMTRSR", "SASRec"], "ml-100k", config_dict={"epochs": 3})  # doctest: +SKIP
        >>> print(compared.table)  # doctest: +SKIP
        >>> results, folder = compared  # doctest: +SKIP
    """
    call = _call("compare", {"models": models}, dataset, config_file_list, config_dict, saved)
    return Compared(*compared_runs(models, dataset, config_file_list, config_dict, saved, call))


@on_screen()
def compared_runs(
    models: Sequence[str],
    dataset: str | Dataset | None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    command: Command | None = None,
) -> tuple[list[Run], list[Comparison], Path]:
    """``compare``, as the command line calls it.

    Args:
        models, dataset, config_file_list, config_dict, saved: as in ``compare``.
        command: the command line; its flags are stronger than ``config_dict``.

    Returns:
        all runs, the comparisons of those that were tested (the test's first, then those of ``also_test``), and the
        folder of the results.
    """
    processes.join()
    if not processes.is_main():
        processes.keep_silent()
    if isinstance(models, str):
        raise UserError(f"models must be a list of names, such as ['{models}'], got the text '{models}'")
    if not models:
        raise UserError("no model is named: pass --model=<name>, or several as --model=LLMTRSR,SASRec")
    files, options = list(config_file_list or ()), config_dict or {}
    if isinstance(dataset, Dataset):
        files, dataset = [str(dataset.properties), *files], dataset.name
    dataset_name = _required("dataset", dataset, files, options)
    if len(set(models)) < len(models):
        raise UserError(
            f"a model is named twice in {', '.join(models)}: name each once, or give one a variant's name, such as"
            f" {models[0]},{models[0]}@recurrent, with --{models[0]}@recurrent.<option>=<value>"
        )
    # Every name and every model's options are checked before the first model trains.
    configs = [config for label in models for config in _seeded_configs(label, dataset_name, files, options, command)]
    _check_together(configs, models, saved)
    processes.run_on_main(lambda: check_folders(configs))
    settings = configs[0].settings.evaluation
    asked = {_name(config): {**config.effective_options(), "saved": saved} for config in configs}
    made = MadeFolders()
    folder = processes.run_on_main(lambda: result_folder(configs[0].settings, models, dataset_name, asked, made))
    digests = {name: digest for config in configs for name, digest in file_digests(config).items()}
    processes.check_alike(
        {
            "options": {name: {k: v for k, v in own.items() if k not in _OF_ONE} for name, own in asked.items()},
            "data files": digests,
            "versions": versions(),
        }
    )
    record, summaries = RunFile(folder, asked, digests, versions()), RunRecord(folder / STATES)
    runs: list[Run] = []
    write = partial(_write_comparisons, folder, runs, settings, is_alone=len(configs) == 1)
    folders = [_own_folder(config, folder, several=len(models) > 1) for config in configs]
    try:
        if processes.is_main():
            remove_unfinished(folder, folders)
        rehearse([config for config in configs if _name(config) not in record.finished])
        try:
            _run_all(configs, folders, made, saved, record, summaries, runs)
        except BaseException:
            if processes.is_main():
                write()  # of the runs before the one that failed
            raise
        comparisons = processes.run_on_main(write)
        record.complete()
        if processes.is_main():
            summaries.remove()
    finally:
        made.remove_empty()
        record.close()
        made.remove_empty()  # the command's folder, once the account of its runs is gone
    return runs, comparisons, folder


def _run_all(
    configs: Sequence[Config],
    folders: Sequence[Path],
    made: MadeFolders,
    saved: bool,
    record: RunFile,
    summaries: RunRecord,
    runs: list[Run],
) -> None:
    """Append the run of every config, in their order; runs that had finished before are read from their folders."""
    for config, own_folder in zip(configs, folders, strict=True):
        settings = config.settings.evaluation
        if processes.is_main():
            made.make(own_folder)
        if _name(config) in record.finished:
            runs.append(load_run(own_folder, {mode: folder_name(mode) for mode in settings.also_test}))
        else:
            resolved = with_retriever(config, runs)
            run = partial(run_pipeline, resolved, saved, own_folder, _candidate_hashes(runs), summaries)
            is_divided = processes.count() == 1 or getattr(config.model_class, "divides_batches", False)
            if not is_divided:
                getLogger().warning(f"{config.label} runs in one process, for which the others wait")
            runs.append(run() if is_divided else processes.run_on_main(run))
            if not config.settings.summary.dry_run:
                record.finish(_name(config))
        remove_states(own_folder)


def _own_folder(config: Config, folder: Path, several: bool) -> Path:
    """Where a run's files go, in the folder of a command of several models or seeds."""
    seeds = [f"seed-{config['seed']}"] if config.settings.evaluation.seeds else []
    return folder.joinpath(*([config.label] if several else []), *seeds)


def _name(config: Config) -> str:
    return f"{config.label}, seed {config['seed']}"


def _write_comparisons(
    folder: Path, runs: Sequence[Run], settings: EvaluationSettings, is_alone: bool
) -> list[Comparison]:
    """Compare the finished runs in their test, then in every further test, and write what the options ask for."""
    if not (finished := _finished(runs)):
        return []
    of_modes = {f"{ALSO}/{folder_name(mode)}": [run.also[mode] for run in finished] for mode in finished[0].also}
    compared = {"": finished, **of_modes}
    comparisons = {name: make_comparison(own, settings.n_resamples) for name, own in compared.items()}
    for name, comparison in reversed(comparisons.items()):  # the test's last, whose report points to the others
        if not is_alone or settings.report:
            write_comparison(folder / name, comparison)
        if settings.report:
            write_report(folder / name, comparison)
    return list(comparisons.values())


def _candidate_hashes(runs: Sequence[Run]) -> dict[str, str]:
    """Hashes of the candidate sets, by split, which further runs must have too."""
    finished = _finished(runs)
    return {split: drawn["hash"] for split, drawn in finished[0].result["candidates"].items()} if finished else {}


def _seeded_configs(
    label: str, dataset: str, files: Sequence[str], options: Mapping[str, Any], command: Command | None
) -> list[Config]:
    """The options of one row of a comparison, once for every seed."""
    config = checked_config(label, dataset, files, options, command)
    seeds = config.settings.evaluation.seeds
    if seeds is None:
        return [config]
    if not seeds:
        raise UserError("seeds names none: give some, such as seeds=1,2,3, or leave it out")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds names one twice, got {list(seeds)}: name each once")
    data_seed = config.settings.evaluation.data_seed
    shared = {"data_seed": seeds[0] if data_seed is None else data_seed}
    seeded = [checked_config(label, dataset, files, {**options, **shared, "seed": seed}, command) for seed in seeds]
    if [one["seed"] for one in seeded] != list(seeds):
        raise UserError(f"seed {seeded[0]['seed']} and seeds {list(seeds)} are both set: keep one of them")
    return seeded


def _check_together(configs: Sequence[Config], labels: Sequence[str], saved: bool) -> None:
    """Refuse options that make no sense for several runs, or apply to none of them."""
    faults = []
    checkpoints = [config.settings.evaluation.checkpoint for config in configs]
    if any(c is not None and checkpoints.count(c) > 1 for c in checkpoints):
        faults.append("checkpoint belongs to one model and one seed: write --<model>.checkpoint=<file>, without seeds")
    for name in ("seeds", "also_test", "report", "n_resamples", "result_dir", "resume"):
        if len({str(config.settings.flat()[name]) for config in configs}) > 1:
            faults.append(f"{name} must be the same for all models of a comparison: leave the model's name away")
    ranked = {
        excludes_seen(config): config.label for config in configs if "full" in config["eval_args"]["mode"].values()
    }
    if len(ranked) > 1:
        faults.append(
            f"full ranking would leave a user's history out for {ranked[True]} and not for {ranked[False]}, which is"
            " RecBole's rule by kind of model: set exclude_seen: yes or no for all"
        )
    differing = protocol_faults({_name(config): config.effective_options() for config in configs})
    faults += [f"{fault}: it decides what is tested or counted, so set it for all models" for fault in differing]
    faults += faults_of_retrievers(configs, saved)
    n = processes.count()
    faults += [
        f"gradient_shards: {config.settings.training.gradient_shards} is for that many processes, or for one; there are"
        f" {n}: leave it out"
        for config in configs
        if n > 1 and config.settings.training.gradient_shards not in (None, n)
    ]
    spoken_to = {name.rpartition(".")[0] for name in configs[0].external_config_dict if "@" in name}
    faults += [
        f"options name '{name}', which is not compared ({', '.join(labels)})" for name in spoken_to - set(labels)
    ]
    if faults:
        raise UserError(list(dict.fromkeys(faults)))
    for told in unread_options(configs, model_options()):
        getLogger().warning(told)
    user = configs[0].settings.evaluation.explain
    if user is not None and not any(reads_candidates(config.model_class) for config in configs):
        getLogger().warning(f"explain: {user} has no effect: only LLMTRSR and TALLRec have prompts to explain")


def _finished(runs: Sequence[Run]) -> list[Run]:
    """Runs that were tested, rather than stopped after their summaries."""
    return [run for run in runs if "test_result" in run.result]


def objective_function(
    config_dict: Mapping[str, Any] | None = None, config_file_list: Sequence[str] | None = None, saved: bool = True
) -> dict[str, Any]:
    """The objective of RecBole's HyperTuning: one run with the options of a point of its search.

    Args:
        config_dict: options by name, among them ``model`` and ``dataset`` unless the files have them.
        config_file_list: property files, such as ``[dataset.properties]`` of a `Dataset`.
        saved: keep the best checkpoint and test with it.

    Returns:
        what `run_recbole_llmtrsr` returns, and the ``model``.

    Examples:
        >>> objective_function({"model": "SASRec", "dataset": "ml-100k", "learning_rate": 0.01})  # doctest: +SKIP
    """
    name = _required("model", None, config_file_list, config_dict)
    return {"model": name, **run_recbole_llmtrsr(name, None, config_file_list, config_dict, saved)}


def _call(
    function: str,
    models: Mapping[str, Any],
    dataset: str | Dataset | None,
    files: Sequence[str | Path] | None,
    options: Mapping[str, Any] | None,
    saved: bool,
) -> Command:
    """The call as the command of its runs."""
    read = [str(dataset.properties)] if isinstance(dataset, Dataset) else []
    listed = [*read, *map(str, files or ())]
    name = dataset.name if isinstance(dataset, Dataset) else dataset
    given = {"config_file_list": listed or None, "config_dict": dict(options or {}) or None, "saved": saved}
    return Command(call_text(function, **models, dataset=name, **given))


def _mean_metrics(results: Sequence[Mapping[str, float] | None]) -> dict[str, float] | None:
    known = [result for result in results if result is not None]
    return {name: fmean(result[name] for result in known) for name in known[0]} if known else None


def _required(
    name: str, value: str | None, files: Sequence[str | Path] | None, options: Mapping[str, Any] | None
) -> str:
    if value is not None and not isinstance(value, str):
        remedy = "; DataFrames become one by recbole_llmtrsr.Dataset.from_frames" if name == "dataset" else ""
        raise UserError(f"{name} must be a name, such as '{_EXAMPLES[name]}', got a {type(value).__name__}{remedy}")
    value = value or option_from_sources(name, files or (), options or {})
    if not value:
        raise UserError(f"no {name} is named: pass --{name}=<name>, or set it in a property file or the dictionary")
    return str(value)
