"""LLMTRSRTrainer: RecBole's Trainer with its epochs, early stopping and logs, extended by accelerate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from accelerate.utils.memory import should_reduce_batch_size
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.trainer import Trainer
from recbole.utils import set_color
from safetensors import SafetensorError
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.loaders.prefetch import Prefetched, prefetched
from recbole_llmtrsr.engine.sharding import hide_sharded_weights
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.number_format import weights_dtype
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.atomic_write import atomic_write_folder
from recbole_llmtrsr.runtime.checkpoints import load_checkpoint, unwritable, write_checkpoint
from recbole_llmtrsr.runtime.packing import groups
from recbole_llmtrsr.runtime.screen import Bar
from recbole_llmtrsr.training.gradient_sum import GradientSum, own_randomness

_Parts = list[tuple[Interaction, float]]  # of batches, with their shares in the loss
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


class LLMTRSRTrainer(Trainer):  # type: ignore[misc]
    """Trains the weights of a `LanguageModelRecommender` that require gradients.

    The trainer adds to RecBole's Trainer: bf16 if the device supports it, gradient accumulation, warm-up and decay of
    the learning rate, and checkpoints of the trainable weights, beside which it saves the adapter in peft's format.

    Args:
        config: the configuration of the run.
        model: the model to train.
    """

    saved_model_file: str
    optimizer: AcceleratedOptimizer

    def __init__(self, config: Config, model: SequentialRecommender) -> None:
        self._settings = config.settings.training
        Path(config["checkpoint_dir"]).mkdir(parents=True, exist_ok=True)  # RecBole's way fails where two come at once
        with nullcontext() if processes.is_main() else mock.patch("recbole.trainer.trainer.get_tensorboard"):
            super().__init__(config, model)
        # Accelerate keeps one state for a process, and a process may train several models.
        AcceleratorState._reset_state(reset_partial_state=True)
        computes = getattr(model, "served", None) is None  # else the backbone has no effect, and may not exist
        bf16 = computes and weights_dtype(config.settings.backbone, self.device) == torch.bfloat16
        self.accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=self.device.type == "cpu")
        if self.accelerator.num_processes != processes.count():
            raise UserError(
                f"accelerate sees {self.accelerator.num_processes} processes, but this run has {processes.count()}:"
                " start it with 'accelerate launch' or 'torchrun', which set RANK and WORLD_SIZE"
            )
        self._draws_by_model = bool(config["train_neg_sample_args"].get("dynamic"))  # negatives, by its present scores
        self._n_shards = (self._settings.gradient_shards or processes.count()) if model.divides_batches else 1
        self._prepared = self._distributed(model)
        self.optimizer = self.accelerator.prepare_optimizer(self.optimizer)
        self._scheduler: Any = None
        self._scheduler_state: dict[str, Any] | None = None
        self._begin_at: tuple[int, torch.Tensor] | None = None

    def _distributed(self, model: SequentialRecommender) -> torch.nn.Module:
        """Wrap the model to sum gradients if there are several processes."""
        prepared = self.accelerator.prepare_model(model, evaluation_mode=True)  # whose own wrapper refuses DTensors
        if processes.count() == 1:
            return prepared
        if model.backbone.is_divided:
            hide_sharded_weights(prepared)
        return DistributedDataParallel(prepared, device_ids=[self.device] if self.device.type == "cuda" else None)

    def begin_at(self, n_batches: int, total: torch.Tensor) -> None:
        """Start the next epoch after this many batches, whose losses sum up to `total` []; see `_after_step`."""
        self._begin_at = n_batches, total

    def schedule_state(self) -> dict[str, Any] | None:
        """State of the learning rate schedule; None before the first step."""
        return None if self._scheduler is None else self._scheduler.state_dict()

    def restore_schedule(self, state: dict[str, Any]) -> None:
        """Restore what `schedule_state()` returned, when the next epoch creates the schedule."""
        self._scheduler_state = state

    def _build_optimizer(self, **kwargs: object) -> torch.optim.Optimizer:
        params = [weight for weight in self.model.parameters() if weight.requires_grad]
        params = params or [torch.nn.Parameter(torch.empty(0))]  # of a model behind a server; torch refuses none
        if self.learner.lower() in ("adam", "adamw"):
            kind = torch.optim.AdamW if self.learner.lower() == "adamw" else torch.optim.Adam
            first, second = self._settings.adam_betas
            return kind(params, lr=self.learning_rate, betas=(first, second), weight_decay=self.weight_decay)
        return super()._build_optimizer(params=params, **kwargs)

    def _train_epoch(
        self, train_data: AbstractDataLoader, epoch_idx: int, loss_func: object = None, show_progress: bool = False
    ) -> float:
        """Train one epoch; returns the mean loss of a batch."""
        self.model.train()
        n_batches, size = len(train_data), self._settings.gradient_accumulation_steps
        scheduler = self._schedule(-(-n_batches // size))
        (n_done, total), self._begin_at = self._begin_at or (0, torch.zeros(())), None
        total = total.to(self.device)
        bar = Bar(
            self._batches(train_data, n_done),
            total=n_batches,
            initial=n_done,
            desc=f"epoch {epoch_idx + 1}",
            disable=not show_progress,
        )
        for group in groups(bar, size):  # the last group may be short
            total += self._gradients(group)  # of all processes
            if self.clip_grad_norm:
                self.accelerator.clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
            self._step()
            scheduler.step()
            self.optimizer.zero_grad()
            n_done += len(group)
            if not self._draws_by_model:  # whose batches cannot be made again
                self._after_step(epoch_idx, n_done, total)
        mean = total.item() / n_batches
        if mean != mean:
            raise UserError(
                f"the training loss became nan in epoch {epoch_idx}: lower learning_rate ({self.learning_rate}), set"
                " clip_grad_norm: {max_norm: 1.0}, or use precision: fp32"
            )
        return float(mean)

    def _after_step(self, epoch: int, n_batches: int, loss: torch.Tensor) -> None:
        """Hook after every optimizer step, with the number of batches so far in the epoch and the sum of losses []."""

    def _batches(self, train_data: Iterable[Interaction], n_done: int = 0) -> Iterable[Interaction]:
        """Return the remaining batches, prefetched unless the loader draws negatives by the model's scores."""
        if self._draws_by_model:
            return train_data  # type: ignore[no-any-return]
        return prefetched(islice(train_data, n_done, None), self.model.prepare)

    def _gradients(self, group: Sequence[Interaction]) -> torch.Tensor:
        """Compute gradients of the mean loss of a group of batches, in smaller parts if memory runs out.

        Returns:
            The sum of their losses. []
        """
        while True:
            meter = getattr(self.model, "meter", None)
            mark = meter.mark() if meter else None
            try:
                return self._backward(group)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
            # Outside the except clause, where the error no longer references tensors of the failed pass.
            self.optimizer.zero_grad()
            if meter:
                meter.back_to(mark)
            if processes.count() > 1:
                raise UserError(
                    f"training is out of memory in process {processes.rank()} of {processes.count()}, and batches"
                    " cannot shrink in one process alone: lower max_tokens_per_batch (it was"
                    f" {self.config.settings.backbone.max_tokens_per_batch or 'chosen by the device'}), or set"
                    " precision: bf16, gradient_checkpointing: True or a smaller train_batch_size"
                )
            self.model.halve_training_budget(group)

    def _backward(self, group: Sequence[Interaction]) -> torch.Tensor:
        parts = [part for one in group for part in self.model.micro_batches(one, self._n_shards)]
        shards = [parts[number :: self._n_shards] for number in range(self._n_shards)]
        if len(shards) == 1:
            return self._backward_parts(parts, len(group))
        seeds = torch.randint(2**62, (len(shards),)).tolist()
        if processes.count() > 1:
            with own_randomness(seeds[processes.rank()], self.device):
                losses = processes.all_gather(self._backward_own(shards, len(group)).cpu())
        else:
            losses, gradients = [], GradientSum(self.model.trainable_weights().values())
            for shard, seed in zip(shards, seeds, strict=True):
                with own_randomness(seed, self.device):
                    losses.append(self._backward_parts(shard, len(group)))
                gradients.take()
            gradients.give()
        return torch.stack(losses).sum().to(self.device)

    def _backward_own(self, shards: Sequence[_Parts], n_batches: int) -> torch.Tensor:
        """Run `_backward_parts` on this process's shard; the meter counts all shards."""
        own, meter = shards[processes.rank()], getattr(self.model, "meter", None)
        # All processes synchronize gradients; with sharded weights, all must make the same number of passes.
        n_passes = max(map(len, shards)) if self.model.backbone.is_divided else 1
        idle = [(shards[0][0][0], 0.0)] * (n_passes - len(own))
        mark = meter.mark() if meter else None
        total = self._backward_parts([*own, *idle], n_batches)
        if meter:
            meter.back_to(mark)
        for interaction, _ in chain.from_iterable(shards):
            self.model.count_training(interaction)
        return total

    def _backward_parts(self, parts: _Parts, n_batches: int) -> torch.Tensor:
        """Add the gradients of some parts of `n_batches` batches; returns the sum of their losses. []"""
        total = torch.zeros((), device=self.device)
        for index, (interaction, share) in enumerate(parts):
            is_last = index + 1 == len(parts)
            with nullcontext() if is_last else self.accelerator.no_sync(self._prepared):
                with self.accelerator.autocast():
                    loss = self._prepared(interaction.to(self.device)) * share
                self.accelerator.backward(loss * processes.count() / n_batches)
            total += loss.detach()
        return total

    def _step(self) -> None:
        try:
            self.optimizer.step()
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            n = sum(weight.numel() for weight in self.model.trainable_weights().values())
            raise UserError(
                f"{self.device} has too little memory for the optimizer state of {n:,} trained weights, which takes"
                " twice their size: set tune: lora, a lower lora_rank, a smaller backbone, or a lower"
                " max_tokens_per_batch"
            ) from error

    def _schedule(self, steps_per_epoch: int) -> LRScheduler:
        """Return the schedule over all epochs, which the first epoch creates, when the number of steps is known."""
        if self._scheduler is None:
            steps = steps_per_epoch * self.epochs
            self._scheduler = get_scheduler(
                _SCHEDULES[self._settings.lr_scheduler],
                self.optimizer.optimizer,
                num_warmup_steps=round(self._settings.warmup_ratio * steps),
                num_training_steps=steps,
            )
            if self._scheduler_state is not None:
                self._scheduler.load_state_dict(self._scheduler_state)
                for group, rate in zip(self.optimizer.param_groups, self._scheduler.get_last_lr(), strict=True):
                    group["lr"] = rate  # creating the schedule has set it to that of the first step
        return self._scheduler

    @torch.no_grad()
    def evaluate(self, eval_data: AbstractDataLoader | None, *args: object, **kwargs: object) -> Any:
        """Run RecBole's evaluation in the precision of training; scores are still fp32."""
        if eval_data and not isinstance(eval_data, FullSortEvalDataLoader):  # which RecBole recognizes by its class
            eval_data = Prefetched(eval_data, lambda batch: (self.model.prepare(batch[0]), *batch[1:]))
        with self.accelerator.autocast():
            return super().evaluate(eval_data, *args, **kwargs)

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: str) -> None:
        """Save trainable weights and training state as tensors and plain values, and the backbone in its format."""
        if epoch < 0 < self.start_epoch:
            return  # training has ended, and the checkpoint from which it resumed exists already
        file = Path(kwargs.pop("saved_model_file", self.saved_model_file))
        state = {
            **self.config.checkpoint_parts(),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "state_dict": self.model.state_dict(),
            "tokenizer": self.model.backbone.tokenizer_digest(),
            "backbone": self.model.backbone.digest,
            "prompts": self.model.prompts.digest() if hasattr(self.model, "prompts") else None,
            "other_parameter": {},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.schedule_state(),
        }
        write_checkpoint(state, file)
        if processes.is_main():
            try:
                with atomic_write_folder(file.with_suffix("")) as folder:
                    self.model.save_backbone(folder)
            except (OSError, SafetensorError) as error:
                raise unwritable(file.with_suffix(""), error) from error
        processes.barrier()  # the other processes read it afterwards
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {file}")

    def resume_checkpoint(self, resume_file: str | Path) -> None:
        """Load weights, optimizer, learning rate and best score from a checkpoint, and continue after its epoch.

        Raises:
            UserError: the file is not a checkpoint, or belongs to other weights or another tokenizer.
        """
        checkpoint = load_checkpoint(resume_file, map_location=self.device)
        if checkpoint.get("tokenizer", own := self.model.backbone.tokenizer_digest()) != own:
            raise UserError(
                f"checkpoint {resume_file} was trained with another tokenizer, so its embeddings belong to other"
                " tokens; the builtin backbone learns its tokenizer from item texts and summaries: use the data and the"
                " options of the run that saved the checkpoint"
            )
        self._scheduler_state = checkpoint.get("scheduler")
        super().resume_checkpoint(resume_file)
