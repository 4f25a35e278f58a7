"""The built-in backbone: a small causal LM with random weights and a tokenizer trained on the data set's texts.

It needs no download. It is a standard transformers model without any pretraining.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone

BUILTIN = "builtin"
PAD_TOKEN = "<pad>"


def build_builtin(
    texts: Iterable[str],
    *,
    hidden_size: int = 128,
    n_layers: int = 3,
    n_heads: int = 4,
    vocab_size: int = 3000,
    max_positions: int = 2048,
    seed: int,
    required_tokens: Sequence[str] = (),
    tokenizer_file: Path | None = None,
) -> Backbone:
    """Build the built-in backbone; the same texts and seed give the same vocabulary and weights.

    Args:
        texts: item texts and prompt wording, on which the tokenizer is trained.
        hidden_size: a multiple of `n_heads`.
        vocab_size: maximum vocabulary size, unless the 256 bytes, the padding token and `required_tokens` need more.
        max_positions: maximum length of a prompt in tokens.
        required_tokens: texts that must be one token each, with their leading space (" yes").
        tokenizer_file: tokenizer of an earlier run, instead of training one.

    Raises:
        ValueError: a required token is more than one word.
        UserError: the tokenizer file is missing or invalid.
    """
    if tokenizer_file is None:
        tokenizer = train_tokenizer(texts, vocab_size, required_tokens)
    else:
        tokenizer = read_tokenizer(tokenizer_file)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lm = Qwen2ForCausalLM(config)
    return Backbone(lm.eval(), tokenizer, BUILTIN)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 3000, required_tokens: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, which represents any text without an unknown token."""
    trained = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    model = json.loads(trained.to_str())["model"]
    vocab: dict[str, int] = model["vocab"]
    merges: list[tuple[str, str]] = [(left, right) for left, right in model["merges"]]
    for token in required_tokens:
        # Merges of lowest priority join the pieces. An added token would be matched in the raw text first, also inside
        # a longer word (" yes" in " yesterday").
        encoding = _byte_level(models.BPE(vocab=vocab, merges=merges)).encode(token)
        if len({word for word in encoding.word_ids}) != 1:
            raise ValueError(f"required token {token!r} is not one word: give one word, with at most a leading space")
        joined, *rest = encoding.tokens
        for piece in rest:
            merges.append((joined, piece))
            joined += piece
            vocab.setdefault(joined, len(vocab))
    tokenizer = _byte_level(models.BPE(vocab=vocab, merges=merges))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD_TOKEN)


def read_tokenizer(file: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer that a run with the built-in backbone saved.

    Raises:
        UserError: the file is missing or invalid.
    """
    try:
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(file)), pad_token=PAD_TOKEN)
    except Exception as error:  # tokenizers raises nothing more specific
        raise UserError(
            f"builtin_tokenizer: {file} cannot be read ({error}): give the tokenizer.json in the folder beside a"
            " checkpoint of backbone: builtin"
        ) from error


def save_builtin(backbone: Backbone, folder: Path) -> None:
    """Save a built-in backbone as a Llama of equal scores, which any transformers program reads with its tokenizer.

    AutoTokenizer gives every Qwen 2 model the tokenizer class of Qwen 2, whatever its folder says, but reads that of a
    Llama from the folder. A Llama with attention biases differs from a Qwen 2 in one more bias, behind the attention,
    which is 0 here.
    """
    lm = backbone.transformer
    own = lm.config.to_dict()
    names = set(LlamaConfig().to_dict()) - {"model_type", "architectures", "attention_bias"}
    config = LlamaConfig(**{name: own[name] for name in names & set(own)}, attention_bias=True)
    config.architectures, config.dtype = ["LlamaForCausalLM"], lm.dtype
    weights = {name: weight for name, weight in lm.state_dict().items() if name != "lm_head.weight"}  # tied
    for layer in range(config.num_hidden_layers):
        weights[f"model.layers.{layer}.self_attn.o_proj.bias"] = torch.zeros(config.hidden_size)
    config.save_pretrained(folder)
    lm.generation_config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    backbone.tokenizer.save_pretrained(folder)
    described = folder / "tokenizer_config.json"
    of_tokenizer = json.loads(described.read_text(encoding="utf-8"))
    of_tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"  # its name in every release of transformers
    described.write_text(json.dumps(of_tokenizer, indent=2) + "\n", encoding="utf-8")


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    # No prefix space: sections of a prompt are encoded separately and concatenated.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
