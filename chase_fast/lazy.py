"""Packages that import a name when it is first asked for, and that can be called like the function they are
named after: `import chase_fast` loads neither torch nor OpenCV."""

import importlib
import sys
from collections.abc import Collection, Mapping
from types import MappingProxyType, ModuleType
from typing import Any


class Package(ModuleType):
    """A package whose public names live in its modules; see `front_door`."""

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_packages", ()):
            return importlib.import_module(f"{self.__name__}.{name}")
        home = self.__dict__.get("_homes", {}).get(name)
        if home is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)
        value = getattr(importlib.import_module(home), name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._homes, *self._packages})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__dict__.get("_call")
        if name is None:
            raise TypeError(f"the package {self.__name__!r} is no function")
        return getattr(self, name)(*args, **kwargs)


def front_door(
    package: str,
    homes: Mapping[str, str] = MappingProxyType({}),
    call: str | None = None,
    packages: Collection[str] = (),
) -> None:
    """Gives a package public names that are imported from its modules when they are first used.

    Args:
        package: its `__name__`.
        homes: name -> absolute name of the module that defines it.
        packages: names of packages in it, imported likewise.
        call: a function of the package; `package(...)` is then `package.NAME(...)`.
    """
    module = sys.modules[package]
    module.__class__ = Package
    module.__dict__.update(_homes=dict(homes), _call=call, _packages=tuple(packages))
