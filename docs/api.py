"""Writes the API page as static HTML, made of the docstrings by pdoc: python docs/api.py [FOLDER]

Needs `pip install ".[docs]"`. A name that does not resolve ends it with an error.
"""

import contextlib
import importlib
import re
import sys
import warnings
from pathlib import Path

import pdoc

import chase_fast

PAGES = [
    "chase_fast",
    *(f"chase_fast.{name}" for name in chase_fast._PACKAGES),
    *(f"chase_fast.kernels.{op}" for op in chase_fast.kernels._OPS),
]

if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "build/api").resolve()
    out.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        module = importlib.import_module(page)
        for name in getattr(module, "__all__", ()):
            getattr(module, name)  # imported when first used: pdoc looks only at what is there
    warnings.simplefilter("error")
    pdoc.render.configure(docformat="google", show_source=False)
    only = f"!^(?!({'|'.join(map(re.escape, PAGES))})$)"
    with contextlib.chdir(out):  # pdoc warns beside a folder of the name of the package
        pdoc.pdoc("chase_fast", only, output_directory=out)
    missing = [page for page in PAGES if not (out / f"{page.replace('.', '/')}.html").is_file()]
    if missing:
        sys.exit(f"no page was made for {', '.join(missing)}")
    print(f"{len(PAGES)} modules: {out / 'chase_fast.html'}")
