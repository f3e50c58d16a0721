"""A derived cell as data, its JSON form, and the published CHASE cells."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from chase_fast.errors import ChaseError
from chase_fast.fields import load_json, short

from .operations import check_operation, registered_by

# of cells in files: what anybody builds is far below, a damaged number far above
MOST_NODES, MOST_CHANNELS = 64, 8192

Gene = tuple[str, int]


@dataclass(frozen=True)
class Genotype:
    """The cell that a search found: per intermediate node the operations that enter it.

    nodes: node i (0, 1, ...) is the sum of op(source) over its genes (op name, source). Sources 0 and 1 are
        the cell's inputs (layer2 and layer3 branch), source 2 + i is node i; the cell's output is all nodes,
        concatenated. A node without genes is zero.

    Raises:
        ChaseError: no node, an unknown operation, or a source that does not come before its node.
    """

    nodes: tuple[tuple[Gene, ...], ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ChaseError("genotype has no nodes: give at least one list of [operation, source] pairs")
        if len(self.nodes) > MOST_NODES:
            raise ChaseError(f"genotype has {len(self.nodes)} nodes, at most {MOST_NODES} can be built")
        for i, genes in enumerate(self.nodes):
            for op, source in genes:
                self._check(op)
                if type(source) is not int or not 0 <= source < i + 2:
                    raise ChaseError(
                        f"genotype node {i}: source {short(source)} of {op} must be an integer in 0..{i + 1}"
                    )

    @staticmethod
    def _check(op: object, files: Mapping[str, str] = MappingProxyType({})) -> None:
        check_operation(op, files)

    def to_data(self) -> dict[str, Any]:
        """{"nodes": [[[op, source], ...], ...]}, to be stored inside a larger JSON file; with operations of
        the user's own also "registered_by": {op: file}."""
        data: dict[str, Any] = {"nodes": [[[op, source] for op, source in genes] for genes in self.nodes]}
        files = registered_by(op for genes in self.nodes for op, _ in genes)
        return data | ({"registered_by": files} if files else {})

    @classmethod
    def from_data(cls, data: Any) -> "Genotype":
        """Inverse of `to_data`.

        Raises:
            ChaseError: `data` does not have that form.
        """
        files = data.get("registered_by", {}) if isinstance(data, dict) else None
        if (
            not isinstance(files, dict)
            or not all(isinstance(file, str) for file in files.values())
            or set(data) - {"registered_by"} != {"nodes"}
            or not _is_gene_lists(data["nodes"])
        ):
            raise ChaseError(
                'genotype must be {"nodes": [[[operation, source], ...], ...]}, and nothing else'
            )
        for op in {short(op): op for genes in data["nodes"] for op, _ in genes}.values():
            cls._check(op, files)
        return cls(tuple(tuple((op, source) for op, source in genes) for genes in data["nodes"]))

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_data())

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Inverse of `to_json`.

        Raises:
            ChaseError: no JSON, or not a genotype.
        """
        try:
            data = load_json(text, "it")
        except ChaseError as e:
            raise ChaseError(f"genotype is not valid JSON ({e}): give the text that a search wrote") from None
        return cls.from_data(data)

    @classmethod
    def from_any(cls, value: Any) -> "Genotype":
        """Of `to_data` or `to_json`: files hold either; raises ChaseError as they do."""
        return cls.from_json(value) if isinstance(value, str) else cls.from_data(value)


class Sketch(Genotype):
    """A cell to be drawn, not built: its operations need not be known in this process."""

    @staticmethod
    def _check(op: object, files: Mapping[str, str] = MappingProxyType({})) -> None:
        if not isinstance(op, str) or not 0 < len(op) <= 80:
            raise ChaseError(f"operation {short(op)} must be a name of at most 80 letters")


def _is_gene_lists(nodes: Any) -> bool:
    return isinstance(nodes, list) and all(
        isinstance(genes, list) and all(isinstance(gene, list) and len(gene) == 2 for gene in genes)
        for genes in nodes
    )


# released CHASE code: the active cell, and those of the ablations
CHASE = Genotype(
    (
        (("avg_pool_3x3", 0), ("sep_conv_5x5", 1)),
        (("skip_connect", 1), ("sep_conv_3x3", 2)),
        (("skip_connect", 1), ("dil_conv_5x5", 0)),
        (("skip_connect", 1), ("skip_connect", 4)),
    )
)
CHASE_FD = Genotype(
    (
        (("dil_conv_3x3", 0), ("skip_connect", 1)),
        (("dil_conv_3x3", 0), ("dil_conv_3x3", 2)),
        (("dil_conv_3x3", 0), ("dil_conv_3x3", 2)),
        (("dil_conv_3x3", 0), ("skip_connect", 1)),
    )
)
CHASE_WO = Genotype(
    (
        (("sep_conv_3x3", 0), ("sep_conv_5x5", 1)),
        (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        (("dil_conv_3x3", 3), ("dil_conv_3x3", 1)),
        (("sep_conv_3x3", 4), ("dil_conv_3x3", 3)),
    )
)
PUBLISHED = {"chase": CHASE, "chase_fd": CHASE_FD, "chase_wo": CHASE_WO}
