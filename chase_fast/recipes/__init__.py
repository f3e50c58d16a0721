"""Recipes: functions that return a complete, frozen configuration; one file per command."""

from chase_fast.recipes.search import SEARCH, SearchConfig, paper, search_recipe
from chase_fast.recipes.train import TRAIN, TrainConfig, train_recipe

__all__ = ["SEARCH", "TRAIN", "SearchConfig", "TrainConfig", "paper", "search_recipe", "train_recipe"]
