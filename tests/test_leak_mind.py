"""Every summary and prompt of a fifth of MIND: no token of the target or of later events that is not before it, too."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from word_tokenizer import Words

from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.data.prepare.converters.mind import convert_mind
from recbole_llmtrsr.experiment.summary_stage import make_summaries
from recbole_llmtrsr.prompt.builder import PromptBuilder
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.registry import get_dataset, get_model

RAW = Path(__file__).parents[2] / "shared" / "data" / "mind_small_5k"


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not RAW.is_dir(), reason=f"real data missing: {RAW}")
@pytest.mark.parametrize("paradigm", ["hierarchical", "recurrent"])
def test_no_token_of_a_target_or_a_later_event_reaches_a_summary_or_prompt(
    paradigm: str, tmp_path: Path, make_config: Any
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    with (RAW / "behaviors.tsv").open(encoding="utf-8") as impressions:
        (raw / "behaviors.tsv").write_text("".join(islice(impressions, 1_000)), encoding="utf-8")
    (raw / "news.tsv").symlink_to(RAW / "news.tsv")
    convert_mind(raw, tmp_path / "dataset" / "mind")
    config = make_config(
        dataset="mind",
        data_path=str(tmp_path / "dataset"),
        summary=paradigm,
        summary_store=None,
        max_train_targets_per_user=None,
        max_prompt_tokens=2048,
    )
    dataset = get_dataset(get_model("LLMTRSR"))(config)
    loaders, *_ = make_loaders(config, dataset)
    summaries = make_summaries(config, dataset, loaders).summaries

    words, templates = Words(r"\w+"), templates_for("news")
    catalogue = [item.line for item in dataset.items]
    items = [frozenset(words(line)["input_ids"]) for line in catalogue]
    prompts = PromptBuilder(words, templates, config.settings.prompt, catalogue, with_summary=True)
    # What the program says itself: its wording, names of columns, and counts.
    own = set(words(" ".join([*vars(templates).values(), *dataset.item_text.columns, "words examples"]))["input_ids"])

    leaks, told, prior, begin, known = [], 0, set[int](), -1, 0
    ids = np.array(sorted(summaries))
    for history_id in ids[np.lexsort((dataset.histories.end[ids], dataset.histories.begin[ids]))].tolist():
        if begin != dataset.histories.begin[history_id]:
            begin = known = int(dataset.histories.begin[history_id])
            prior = set()
        for position in range(known, int(dataset.histories.end[history_id])):
            prior |= items[dataset.histories.items[position]]
        known = int(dataset.histories.end[history_id])
        summary = words(summaries[history_id])["input_ids"]
        prompt = prompts.prefix(history_id, summaries[history_id], dataset.histories[history_id])
        told += len(prior.intersection(summary))
        strange = {words.words[i] for i in {*summary, *prompt.tolist()} - prior - own}
        leaks += [(history_id, word) for word in strange if not word.isdigit()]
    assert leaks == []
    assert len(summaries) == 33_004 - 982
    assert told > 10 * len(summaries)  # summaries do speak of their histories
