"""Writes run folders like those of a search or a training, without running one, for tests of the report."""

import dataclasses
import json
import math
import random
from pathlib import Path

from chase_fast.nn.genotype import CHASE, Genotype
from chase_fast.recipes import search_recipe
from chase_fast.recipes.train import train_recipe

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


def write_train_run(
    path: Path,
    cell: Genotype | None = CHASE,
    level: float = 2.6,
    epochs: int = 20,
    seed: int = 0,
    planned: int | None = None,
    **changes: object,
) -> Path:
    """The folder of a training with rows 0 .. epochs, whose validation loss falls towards `level`.

    Args:
        cell: None is the plain block.
        level: a seed moves it by a few 0.01.
        epochs: so many are done; `planned` (None: as many) were asked for.
        changes: of the recipe `small` on synthetic video.
    """
    rng = random.Random(f"{level} {seed}")
    name = "plain" if cell is None else "searched/cell.json"
    given = {"train": ("synthetic",), "val": ("synthetic",), "cell": name} | changes
    total = epochs if planned is None else planned
    config = dataclasses.replace(train_recipe("small"), seed=seed, epochs=max(total, 1), **given)
    spec = {"classifier": config.classifier, "backbone": config.backbone, "flavour": "chase", "channels": 64}
    spec |= {"cell": cell.to_data() if cell else None, "feature_size": config.image_size // 16}
    spec |= {"filter_iterations": config.filter_iterations}
    path.mkdir(parents=True)
    about = {"command": "train", "config": dataclasses.asdict(config), "spec": spec, "seeds": []}
    origin = {"versions": VERSIONS, "commit": "9c21ce7"}
    (path / "config.json").write_text(json.dumps(about | origin, indent=1))
    level += rng.gauss(0, 0.03)
    history, perf = [], []
    for epoch in range(epochs + 1):
        fall = math.exp(-epoch / 4)
        row = {"epoch": epoch}
        for role, gap in (("train", -0.3), ("val", 0.0)):
            terms = {
                "final": 0.55 * level + gap / 2 + 1.9 * fall + rng.gauss(0, 0.01),
                "initial": 0.08 * level + 0.3 * fall + rng.gauss(0, 0.002),
                "middle": 0.22 * level + 0.8 * fall + rng.gauss(0, 0.004),
                "box": 0.15 * level + gap / 2 + 0.7 * fall + rng.gauss(0, 0.01),
            }
            known = role == "val" or epoch > 0
            row |= {f"{role}_loss": sum(terms.values()) if known else None}
            row |= {f"{role}_{term}": value if known else None for term, value in terms.items()}
        factor = config.lr_gamma ** (max(epoch - 1, 0) // config.lr_step)
        row |= {"lr": config.lr * factor, "lr_backbone": config.lr_backbone * factor}
        history.append(row | {"grad_norm": 9 * fall + 1 + rng.random() if epoch else None})
        if epoch:
            speed = {"seconds": 61 + rng.random(), "step_ms": 1000 + 20 * rng.random()}
            speed |= {
                "data_wait_share": 0.01 + 0.01 * rng.random(),
                "peak_memory_mb": 2100 + min(epoch, 3) * 40,
            }
            perf.append({"epoch": epoch, "samples_per_second": 8000 / speed["step_ms"]} | speed)
    for file, rows in (("history", history), ("perf", perf)):
        (path / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if epochs:
        best = min(history[1:], key=lambda row: row["val_loss"])
        neck = 430_000 if cell else 1_770_000
        parts = {"backbone": 2_782_784, "neck": neck, "classifier": 2_400_000, "box": 5_100_000}
        macs = {"backbone": 1_420_000_000, "neck": 196 * neck, "classifier": 47_000_000, "box": 310_000_000}
        result = {"epoch": best["epoch"], "val_loss": best["val_loss"], "spec": spec}
        result["parameters"] = parts | {"total": sum(parts.values())}
        result["macs"] = macs | {"total": sum(macs.values())}
        result |= {
            "recipe": "small",
            "seed": seed,
            "threads": 2,
            "train": ["synthetic"],
            "val": ["synthetic"],
        }
        (path / "result.json").write_text(json.dumps(result | origin, indent=1))
    return path


def write_seeds(path: Path, seeds: tuple[int, ...] = (0, 1, 2), **options) -> Path:
    """A training over several seeds: seed_K folders, and config.json above them."""
    for seed in seeds:
        write_train_run(path / f"seed_{seed}", seed=seed, **options)
    above = json.loads((path / f"seed_{seeds[0]}" / "config.json").read_text()) | {"seeds": list(seeds)}
    (path / "config.json").write_text(json.dumps(above))
    return path
