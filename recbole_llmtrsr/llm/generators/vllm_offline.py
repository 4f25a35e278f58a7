"""A text generator on this machine: vLLM's own engine, without a server."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

import torch

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import Generation, NoGeneration
from recbole_llmtrsr.llm.loading.adapter import has_adapter, how_to_merge
from recbole_llmtrsr.llm.loading.fingerprint import model_fingerprint
from recbole_llmtrsr.llm.loading.source import ModelSource
from recbole_llmtrsr.llm.tokenization.prompt_tokens import PromptTokens

PREFIX = "vllm:"


class VllmGenerator:
    """Greedy decoding with vLLM, from the same ids as with transformers; vLLM forms the batches.

    The engine starts with the first prompt that needs an answer. It runs on one GPU; for several, start `vllm serve`
    and name it as ``openai:<model>@<base url>``.

    Written for vLLM 0.8 and later; tested with a stand-in that checks what it is given, not with vLLM itself.

    Args:
        source: where the model is.
        dtype: of the weights.
        context: most tokens of prompt and answer together, by which vLLM reserves memory; None takes what the model
            states.

    Raises:
        UserError: vLLM is not installed, or what is said of ``TransformersGenerator``.
    """

    def __init__(self, source: ModelSource, *, dtype: torch.dtype, context: int | None = None) -> None:
        self.name = PREFIX + source.name
        if importlib.util.find_spec("vllm") is None:
            raise UserError(
                f"summarizer '{self.name}' needs vLLM, which is not installed: run `pip install"
                f' "recbole_llmtrsr[vllm]"` on a machine with a GPU, or set `summarizer: {source.name}` to run the'
                " model with transformers"
            )
        if has_adapter(source.path):
            raise UserError(
                f"summarizer '{self.name}' holds an adapter, which vLLM would leave out: {how_to_merge(source.path)}"
            )
        config, tokenizer = source.load_tokenizer()
        self.settings: Mapping[str, Any] = {
            "kind": "vllm",
            "fingerprint": model_fingerprint(source.path),
            "dtype": str(dtype).removeprefix("torch."),
            "decoding": "greedy",
            "context": context,
        }
        self._source = source
        self._tokens = PromptTokens(config, tokenizer, self.name, context)
        self.max_prompt_tokens = self._tokens.room

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, without special ones."""
        return self._tokens.count(text)

    def trim(self, text: str, n_tokens: int) -> str:
        """The beginning of a text, about n_tokens long."""
        return self._tokens.trim(text, n_tokens)

    def report(self) -> dict[str, int]:
        """Nothing: vLLM does not tell."""
        return {}

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int
    ) -> Generator[tuple[int, Generation | NoGeneration], None, None]:
        """Answer every prompt in one call of vLLM.

        Raises:
            ValueError: a prompt leaves no room for the answer; nothing is cut here.
            UserError: vLLM cannot load the model.
        """
        rows = self._tokens.rows(prompts, max_new_tokens)
        if not rows:
            return
        engine = self._engine
        # Ids are turned into text by the same tokenizer as with transformers.
        greedy = import_module("vllm").SamplingParams(temperature=0.0, max_tokens=max_new_tokens, detokenize=False)
        start = time.perf_counter()
        results = engine.generate([{"prompt_token_ids": row} for row in rows], greedy, use_tqdm=False)
        seconds = (time.perf_counter() - start) / len(rows)
        for position, (row, result) in enumerate(zip(rows, results, strict=True)):
            answer = result.outputs[0]
            if answer.finish_reason not in ("stop", "length"):
                yield position, NoGeneration(f"vllm {answer.finish_reason}")
                continue
            ids = list(answer.token_ids)
            finished = answer.finish_reason == "stop"
            yield position, Generation(self._tokens.text(ids), len(row), len(ids), finished, seconds)

    @cached_property
    def _engine(self) -> Any:
        try:
            return import_module("vllm").LLM(
                model=self._source.path,
                dtype=self.settings["dtype"],
                trust_remote_code=self._source.options["trust_remote_code"],
                max_model_len=self._tokens.context,
            )
        except Exception as error:  # vLLM's own kinds are not public, and its worker processes raise further ones
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"summarizer '{self.name}': vLLM cannot run it with {self._tokens.context} tokens of context"
                f" ({reason}): lower summarizer_context, choose a smaller model, or set"
                f" `summarizer: {self._source.name}` to run it with transformers"
            ) from error


def load_vllm_generator(
    name_or_folder: str, *, dtype: torch.dtype, context: int | None = None, trust_remote_code: bool = False
) -> VllmGenerator:
    """A generator for the model behind ``vllm:``, a folder or a name on the hub; raises what the class does."""
    source = ModelSource.find("summarizer", name_or_folder, trust_remote_code)
    return VllmGenerator(source, dtype=dtype, context=context)
