# %% [markdown]
# # First steps
#
# This notebook makes a data set of two DataFrames, compares a language model with two baselines, and asks the trained
# model for rankings, recommendations and an explanation. It takes a minute on a CPU and downloads nothing.
#
# In a checkout, `pip install ".[notebook]"` installs what it needs.

# %% [markdown]
# ## Two DataFrames
#
# A small shop: every product belongs to a line, and has a name and a description. Every customer likes two lines, and
# buys products at random among them. There are 300 products and few purchases of each, as in many real catalogues, so
# that the texts tell more about a product than the purchases do.

# %%
import builtins

import numpy as np
import pandas as pd

from recbole_llmtrsr import Dataset, Recommender, compare

show = getattr(builtins, "display", print)  # a notebook draws, a script prints
rng = np.random.default_rng(0)
LINES = {
    "garden": ["spade", "hose", "seeds", "shears", "bench"],
    "kitchen": ["pan", "kettle", "knife", "bowl", "mixer"],
    "camping": ["tent", "stove", "lamp", "mat", "rope"],
    "office": ["desk", "chair", "pen", "folder", "stapler"],
    "music": ["drum", "flute", "strings", "tuner", "stand"],
    "bath": ["towel", "soap", "mirror", "brush", "basket"],
}
COLOURS = ["red", "blue", "green", "black", "white", "grey"]
products = pd.DataFrame(
    [
        {"product": f"p{number}", "title": f"{rng.choice(COLOURS)} {rng.choice(LINES[line])}", "category": line}
        for number, line in enumerate(rng.choice(list(LINES), size=300))
    ]
)
purchases = pd.DataFrame(
    [
        {"customer": f"c{customer}", "product": product, "day": pd.Timestamp("2024-01-01") + pd.Timedelta(days=day)}
        for customer in range(200)
        for day, product in enumerate(
            rng.choice(products["product"][products["category"].isin(rng.choice(list(LINES), 2, replace=False))], 10)
        )
    ]
)
show(purchases.head())

# %% [markdown]
# `Dataset.from_frames` checks them and writes them as RecBole's atomic files, below the folder `dataset`. Rows that
# cannot be used are counted.

# %%
dataset = Dataset.from_frames(
    purchases,
    products,
    "shop",
    user="customer",
    item="product",
    time="day",
    text=["title", "category"],
    domain="products",
)
print(dataset)

# %% [markdown]
# ## A comparison
#
# Every model trains on the same events and ranks the same candidates: the product that a customer bought last, among 20
# drawn by chance. The language model here is a tiny one that learns from this data alone (`backbone: builtin`); name a
# model of the Hugging Face hub to use a pretrained one.

# %%
options = {
    "use_gpu": False,
    "show_progress": False,
    "state": "WARNING",  # fewer lines of log
    "report": True,
    "MAX_ITEM_LIST_LENGTH": 10,
    "LLMTRSR.epochs": 2,
    "LLMTRSR.learning_rate": 0.01,
    "LLMTRSR.builtin_hidden_size": 32,
    "LLMTRSR.builtin_n_layers": 1,
    "SASRec.epochs": 10,
}
compared = compare(["LLMTRSR", "SASRec", "Pop"], dataset, config_dict=options)
show(compared)

# %% [markdown]
# The comparison unpacks as `results, folder`, and gives every number as a DataFrame. The report has intervals, tests
# and more plots: open `compared.report` in a browser.

# %%
show(compared.to_pandas().query("metric == 'ndcg@10'"))

# %%
plot = compared.plot("ndcg by K")
plot  # a script would write it: Path("plot.svg").write_text(plot)

# %% [markdown]
# Which customers does the language model serve better than SASRec? `per_history()` has a row for every ranked history.

# %%
rows = compared.per_history().pivot_table(index="user_id", columns="model", values="ndcg@10")
show((rows["LLMTRSR"] - rows["SASRec"]).describe())

# %% [markdown]
# ## Rankings and recommendations
#
# `Recommender.load` reads the run of one model. A history is a customer of the data set, or a list of products and
# texts, which need not be in the data set.

# %%
recommender = Recommender.load(compared.folder / "LLMTRSR")
show(recommender.recommend("c7", k=5))

# %%
newcomer = [{"title": "red tent", "category": "camping"}, {"title": "grey rope", "category": "camping"}]
ranking = recommender.rank(
    newcomer,
    [
        {"title": "blue stove", "category": "camping"},
        {"title": "white soap", "category": "bath"},
        {"title": "black flute", "category": "music"},
    ],
)
show(ranking.to_pandas()[["rank", "text", "p_yes"]])

# %% [markdown]
# ## An explanation
#
# What the model read: the history in blocks, their summaries, and the prompt with the best candidate.

# %%
show(recommender.explain("c7", [one.item for one in recommender.recommend("c7", k=3).items]))
