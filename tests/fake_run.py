"""Writes run folders like those of a search, without searching, for the tests of the report."""

import dataclasses
import json
import math
import random
from pathlib import Path

from chase_fast.nn.genotype import CHASE, Genotype
from chase_fast.recipes import search_recipe

VERSIONS = {"chase_fast": "0.1.0", "python": "3.11.7", "platform": "Linux", "torch": "2.15.0"}


def write_run(
    path: Path,
    recipe: str = "paper",
    epochs: int = 52,
    chosen: int | None = 41,
    genotype: Genotype | None = CHASE,
    hessian: bool = False,
    seed: int = 0,
    finished: bool = True,
) -> Path:
    """A run folder with rows 0 .. epochs; `finished=False` leaves out cell.json."""
    rng = random.Random(seed)
    config = dataclasses.replace(search_recipe(recipe), seed=seed)
    edges, ops = config.nodes * (config.nodes + 3) // 2, config.ops
    path.mkdir(parents=True)
    description = {"config": dataclasses.asdict(config), "versions": VERSIONS, "commit": "9c21ce7"}
    (path / "config.json").write_text(json.dumps(description, indent=1))
    alpha = [[rng.gauss(0, config.alpha_init) for _ in ops] for _ in range(edges)]
    drift = [[rng.gauss(0, 0.02) for _ in ops] for _ in range(edges)]
    for node, genes in enumerate(genotype.nodes if genotype else ()):
        for op, source in genes:
            drift[node * (node + 3) // 2 + source][ops.index(op)] += 0.09
    history, alphas, perf = [], [], []
    for epoch in range(epochs + 1):
        active = epoch > config.warmup_epochs
        if active:
            alpha = [[a + d + rng.gauss(0, 0.02) for a, d in zip(*rows)] for rows in zip(alpha, drift)]
        decay = math.exp(-epoch / 14)
        best = chosen or epochs
        free = min(8, 3 + epoch // 12)
        row = {
            "epoch": epoch,
            "train_loss": 1.9 + 2.3 * decay + rng.gauss(0, 0.03) if epoch else None,
            "val_loss": 2.1 + 2.2 * decay + rng.gauss(0, 0.04) if active else None,
            "holdout_loss": 2.4 + 2.1 * decay + 0.0006 * (epoch - best) ** 2 + rng.gauss(0, 0.01),
            "alpha_active": active,
            "lr": 1e-4 + 9e-4 * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs)),
            "dropout": config.dropout * (1 - epoch / config.epochs),
            "alpha_entropy": math.log(len(ops)) * math.exp(-max(0, epoch - config.warmup_epochs) / 60),
            "skip_count": free // 2,
            "weight_free_count": free,
            "genotype": genotype.to_json() if genotype else "",
        }
        if hessian and active:
            row["hessian_eigenvalue"] = 0.05 * math.exp(epoch / 25) + abs(rng.gauss(0, 0.01))
        history.append(row)
        alphas.append({"epoch": epoch, "alpha": alpha})
        perf.append(
            {
                "epoch": epoch,
                "seconds": 2130 + rng.gauss(0, 40) if epoch else 600.0,
                "iteration_ms": 1320 + 60 * active + rng.gauss(0, 20) if epoch else 0.0,
                "data_wait_share": 0.02 + abs(rng.gauss(0, 0.01)) if epoch else 0.0,
                "peak_memory_mb": 11234 + min(epoch, 5) * 300,
            }
        )
    if chosen is not None:
        others = min(row["holdout_loss"] for row in history if row["epoch"] != chosen)
        history[chosen]["holdout_loss"] = others - 0.01
    for name, rows in (("history", history), ("alphas", alphas), ("perf", perf)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished and genotype is not None:
        cell = {
            "genotype": genotype.to_json(),
            "recipe": recipe,
            "flavour": config.flavour,
            "seed": seed,
            "epoch": chosen,
            "holdout_loss": history[chosen]["holdout_loss"],
            "versions": VERSIONS,
            "commit": "9c21ce7",
        }
        (path / "cell.json").write_text(json.dumps(cell, indent=1))
    return path
