"""What depends on the epoch alone: learning rate, dropout rate, and when to stop. Epochs count from 1."""

import math
from typing import Any

from chase_fast.recipes import SearchConfig


def learning_rate(config: SearchConfig, epoch: int) -> float:
    """Learning rate of the weights in this epoch."""
    if config.lr_schedule == "step":
        return config.lr * config.lr_gamma ** ((epoch - 1) // config.lr_step)
    cosine = (1 + math.cos(math.pi * (epoch - 1) / config.epochs)) / 2
    return config.lr_min + (config.lr - config.lr_min) * cosine


def unroll_rate(config: SearchConfig, epoch: int) -> float:
    """Step eta of the unroll: the learning rate (`unroll_lr_bug`: times gamma again after each drop)."""
    rate = learning_rate(config, epoch)
    after_drop = config.lr_schedule == "step" and epoch > 1 and (epoch - 1) % config.lr_step == 0
    return rate * config.lr_gamma if config.unroll_lr_bug and after_drop else rate


def dropout_rate(config: SearchConfig, epoch: int) -> float:
    """Rate of the skip dropout in this epoch: decays linearly to 0 in the last, or is constant."""
    return config.dropout * (1 - epoch / config.epochs) if config.dropout_decay else config.dropout


def alpha_active(config: SearchConfig, epoch: int) -> bool:
    """Whether alpha is optimised in this epoch."""
    return epoch > config.warmup_epochs


def train_mode(config: SearchConfig, epoch: int) -> bool:
    """Whether steps run in train mode; the released code leaves it after its first hold-out evaluation."""
    return not (config.eval_after_holdout and epoch > config.warmup_epochs + 1)


def best_row(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first row of smallest hold-out loss among the epochs in which alpha was optimised."""
    active = [row for row in history if row["alpha_active"]]
    return min(active, key=lambda row: row["holdout_loss"], default=None)


def should_stop(history: list[dict[str, Any]], patience: int) -> bool:
    """True once `patience` epochs (0: never) have passed since the best row."""
    best = best_row(history)
    return patience > 0 and best is not None and history[-1]["epoch"] - best["epoch"] >= patience
