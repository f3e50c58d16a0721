"""The fuzz campaign: seeded mutations of every kind of input, run through the real commands and judged.

    python -m tests.fuzz                          a round of 300 inputs
    python -m tests.fuzz --seed 1 --only 37       one of its inputs again, with all that it printed

cases.py is the table of what is run on which clean input; corpus.py, media.py and sets.py make those inputs;
mutate*.py damage them; server.py runs a command in a fork of a warm process; judge.py and oracles_*.py say
what counts as a clean ending. Only command lines and file formats are relied on, nothing inside the package.
"""
