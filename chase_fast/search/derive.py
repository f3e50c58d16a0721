"""From mixing weights to a cell: the derivation rules of CHASE, DARTS and Fair-DARTS.

The weights are [E, K]: E edges in node-major order (intermediate node i reads the sources 0 .. i+1), K
operations in the order of the search space. Ties keep the lower source and the lower operation, and softmax
is taken in alpha's own dtype: saturated rows may tie in float32 and not in float64 (goldens huge_logits,
near_tie_1e-9).
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from chase_fast.nn.genotype import Genotype

Rule = Literal["top2", "threshold_sparse", "threshold_edge"]
EDGES_PER_NODE = 2
THRESHOLD = 0.85  # Fair-DARTS


def node_edges(edges: int) -> list[range]:
    """Edge numbers of each intermediate node: 14 -> [0..1], [2..4], [5..8], [9..13].

    Raises:
        ValueError: no number of nodes has that many edges.
    """
    nodes: list[range] = []
    start = 0
    while start < edges:
        nodes.append(range(start, start + len(nodes) + 2))
        start = nodes[-1].stop
    if start != edges:
        raise ValueError(f"{edges} edges do not make whole nodes (2, 5, 9, 14, ...)")
    return nodes


def _best(row: list[float], allowed: Sequence[int]) -> int:
    """Allowed index of the largest value, the lowest one on a tie."""
    return max(allowed, key=lambda k: row[k])


def derive(
    weights: Tensor,
    ops: Sequence[str],
    rule: Rule = "top2",
    none_counts: bool = True,
    threshold: float = THRESHOLD,
) -> Genotype:
    """The discrete cell.

    Args:
        weights [E, K]: by which edges and operations are ranked.
        ops: K operation names, the columns of the weights.
        rule: `top2`: per node the two edges whose best operation weighs most, in rank order (DARTS, CHASE);
            `threshold_sparse`: of those two the ones whose best weight reaches `threshold` (Fair-DARTS);
            `threshold_edge`: of every edge the two best operations that reach it, weaker first (Fair-DARTS).
        none_counts: True as in the released CHASE code: `none` competes for edge and operation. False: it is
            left out (DARTS). Without a `none` column both are the same.
    """
    if weights.dim() != 2 or weights.shape[1] != len(ops):
        raise ValueError(f"weights have shape {tuple(weights.shape)}, expected [edges, {len(ops)}]")
    table = weights.tolist()
    allowed = [k for k, op in enumerate(ops) if none_counts or op != "none"]
    nodes = []
    for edges in node_edges(len(table)):
        rows = [table[e] for e in edges]
        if rule == "threshold_edge":
            nodes.append(
                tuple(
                    (ops[k], source)
                    for source, row in enumerate(rows)
                    for k in sorted(allowed, key=lambda k: row[k])[-2:]
                    if row[k] >= threshold
                )
            )
            continue
        best = [_best(row, allowed) for row in rows]
        ranked = sorted(range(len(rows)), key=lambda source: -rows[source][best[source]])[:EDGES_PER_NODE]
        if rule == "threshold_sparse":
            ranked = [source for source in ranked if rows[source][best[source]] >= threshold]
        nodes.append(tuple((ops[best[source]], source) for source in ranked))
    return Genotype(nodes=tuple(nodes))
