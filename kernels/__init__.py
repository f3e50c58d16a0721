"""Kernels of chase_fast: one folder per op, `reference.py` beside every fast backend.

Open `OP/__init__.py` first: contract, fake, autograd and dispatch of that op are there.
"""
