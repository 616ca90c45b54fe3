"""AdaLoRA's rank allocator at work: after each optimizer step it scores the triplets and cuts the least important.

PEFT has the allocator but nobody calls it: its model only trains with the first ranks unless the training loop does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

if TYPE_CHECKING:
    from peft import AdaLoraModel, PeftModel

_FILE, _PATTERN = "rank_allocator.safetensors", "rank_pattern"
_AVERAGES = ("exp_avg_ipt", "exp_avg_unc")  # PEFT's names: smoothed sensitivity, its smoothed uncertainty


class RankAllocation(TrainerCallback):
    """Calls AdaLoRA's update once per optimizer step, and keeps its state in the checkpoints.

    While training goes on, PEFT's configuration is kept without the pattern of cut ranks: with it a checkpoint would
    hold smaller matrices, which could not be loaded into the model that a resumed run builds. The cut triplets are
    zero in it. At the end the pattern is given back, and the adapter is saved in its final size.
    """

    def __init__(self) -> None:
        self.pattern: dict[str, list[bool]] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PeftModel, **kwargs: Any
    ) -> None:
        """Take the allocator's state from the checkpoint of a resumed run."""
        if not state.global_step:
            return
        from safetensors import safe_open

        allocator = model.base_model.rankallocator
        device = next(model.parameters()).device
        file = Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE
        with safe_open(file, framework="pt", device=str(device)) as tensors:
            for key in tensors.keys():  # noqa: SIM118  safe_open has no iterator
                average, _, name = key.partition("/")
                getattr(allocator, average)[name] = tensors.get_tensor(key)
            self.pattern = json.loads(tensors.metadata()[_PATTERN])
        allocator.ipt = dict.fromkeys(allocator.exp_avg_ipt)  # a name that is missing here would reset its averages

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PeftModel, **kwargs: Any
    ) -> None:
        """Update scores and ranks; the gradients of the step are still there."""
        if getattr(kwargs.get("optimizer"), "step_was_skipped", False):
            return  # FP16: an overflow, whose gradients would spoil the scores for ever
        tuner: AdaLoraModel = model.base_model
        step = state.global_step + 1  # the Trainer counts this step only after the callback
        config = tuner.peft_config[tuner.trainable_adapter_name]
        if tuner.rankallocator.init_bgt == tuner.rankallocator.target_bgt:
            # r_init = r_target, as in the paper's Table 5: there is nothing to cut, and PEFT's cutting would fail
            if step < config.total_step - config.tfinal:
                tuner.rankallocator.update_ipt(tuner.model)
            return
        config.rank_pattern = self.pattern
        tuner.update_and_allocate(step)
        self.pattern, config.rank_pattern = config.rank_pattern, None

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PeftModel, **kwargs: Any
    ) -> None:
        """Write the allocator's state into the checkpoint just saved, on the main process."""
        if not state.is_world_process_zero:
            return
        from safetensors.torch import save_file

        allocator = model.base_model.rankallocator
        tensors = {f"{a}/{name}": tensor for a in _AVERAGES for name, tensor in getattr(allocator, a).items()}
        file = Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE
        save_file(tensors, file, metadata={_PATTERN: json.dumps(self.pattern)})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PeftModel, **kwargs: Any
    ) -> None:
        """Give PEFT the pattern back, so that the adapter is saved without the triplets that were cut."""
        tuner = model.base_model
        tuner.peft_config[tuner.trainable_adapter_name].rank_pattern = self.pattern
