"""Nothing at or after a target reaches its summary or its prompt."""

from itertools import zip_longest
from types import SimpleNamespace

import numpy as np
import pytest
import toy
from word_tokenizer import Words

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.experiment.summary_stage import make_summaries
from recbole_llmtrsr.prompt.builder import PromptBuilder
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.registry import get_dataset, get_model

N_ITEMS = 40
LENGTHS = [3, 7, 12, 23]


def write(folder, sequences):
    items = [f"i{n}\tname{n}\tkind{n % 5}" for n in range(N_ITEMS)]
    toy.write_atomic(folder / "toy", toy.events_of(sequences), items, of_items="\tkind:token")


def prefixes(folder, paradigm, monkeypatch):
    """Summary and prompt prefix of every row, by (user, events before the target)."""
    options = {"data_path": str(folder), "summary": paradigm, "max_prompt_tokens": 400, "use_gpu": False}
    options |= {"max_train_targets_per_user": None, "summary_store": None, "show_progress": False}
    config = Config(get_model("LLMTRSR"), "toy", [], options)
    dataset = get_dataset(get_model("LLMTRSR"))(config)
    rows = [part.inter_feat for part in dataset.build()]
    templates = templates_for("generic")
    ids = [int(i) for part in rows for i in part[HISTORY_ID]]
    users = [dataset.field2id_token["user_id"][u] for part in rows for u in part["user_id"]]
    loaders = [SimpleNamespace(_dataset=SimpleNamespace(inter_feat=part)) for part in rows]
    summaries = make_summaries(config, dataset, loaders).summaries
    catalogue = [item.line for item in dataset.items]
    tokenizer = Words()
    builder = PromptBuilder(tokenizer, templates, config.settings.prompt, catalogue, with_summary=True)
    made = {}
    for user, i in zip(users, ids, strict=True):
        builder._prefixes.clear()
        prefix = builder.prefix(i, summaries[i], dataset.histories[i])
        made[str(user), len(dataset.histories[i])] = (summaries[i], tuple(tokenizer.words[n] for n in prefix))
    return made


@pytest.mark.parametrize("paradigm", ["hierarchical", "recurrent"])
def test_changing_a_target_or_anything_after_it_changes_no_summary_and_no_prefix(tmp_path, monkeypatch, paradigm):
    rng = np.random.default_rng(0)
    # Every item is somebody's, so that the catalogue stays the same when one user's events change.
    sequences = {"all": [f"i{n}" for n in range(N_ITEMS)]}
    sequences |= {f"u{n}": [f"i{k}" for k in rng.integers(N_ITEMS, size=n)] for n in LENGTHS}
    write(tmp_path / "before", sequences)
    before = prefixes(tmp_path / "before", paradigm, monkeypatch)
    compared = 0
    # In each round all users have another target; what one user's change did to another would show as well.
    for targets in zip_longest(*(sorted({1, 2, length // 2, length - 1}) for length in LENGTHS)):
        changed = {user: list(items) for user, items in sequences.items()}
        of_user = {length: target for length, target in zip(LENGTHS, targets, strict=True) if target is not None}
        for length, target in of_user.items():
            for position in range(target, length):
                old = int(changed[f"u{length}"][position][1:])
                changed[f"u{length}"][position] = f"i{(old + 7) % N_ITEMS}"
        folder = tmp_path / "-".join(map(str, of_user.values()))
        write(folder, changed)
        after = prefixes(folder, paradigm, monkeypatch)
        for length, target in of_user.items():
            for events in range(1, target + 1):
                assert after[f"u{length}", events] == before[f"u{length}", events]
                compared += 1
            if target + 1 < length:  # and the test can fail: a later prefix does read what was changed
                assert after[f"u{length}", target + 1] != before[f"u{length}", target + 1]
    assert compared == 3 + 12 + 20 + 36


def test_a_prefix_names_every_recent_item_and_never_the_target(tmp_path, monkeypatch):
    """Items are used once per user here, so the target's name must be absent."""
    sequences = {"u": [f"i{n}" for n in range(N_ITEMS)]}
    write(tmp_path, sequences)
    for (_, events), (summary, prefix) in prefixes(tmp_path, "hierarchical", monkeypatch).items():
        text = " ".join(prefix)
        assert f"name{events - 1};" in text
        for later in range(events, N_ITEMS):
            assert f"name{later};" not in text
            assert f"name{later} " not in f"{summary} ".replace("|", " ")
