"""Recipes: functions that return a complete, frozen configuration; one file per command."""

from chase_fast.recipes.search import SEARCH, SearchConfig, paper, search_recipe

__all__ = ["SEARCH", "SearchConfig", "paper", "search_recipe"]
