"""What a search method is: the relaxation, the gradient of alpha, and the way back to a cell."""

from typing import ClassVar, Literal

from torch import Tensor

from chase_fast.nn.genotype import Genotype
from chase_fast.nn.mixing import Mixing, mixing_weights
from chase_fast.nn.search_cell import SearchCell
from chase_fast.recipes import SearchConfig
from chase_fast.search.bilevel import AlphaGradient, FlatParameters, Loss, Reduce, first_order, second_order
from chase_fast.search.derive import derive
from chase_fast.search.mixing import mixing_entropy, zero_one_loss

Number = float | Tensor  # a tensor is 0-d, on the device


class Method:
    """A search method. What a subclass does not say is DARTS (Liu et al. 2019).

    alpha is one leaf tensor [E, K + edge_columns]: E edges in node-major order, K operations. Everything that
    it holds is optimised by the one Adam, stored, and written to alphas.jsonl.

    Attributes:
        config: of the run.
        order: of the alpha gradient. `--order` and `--mixing` replace what the class says.
        mix: what makes mixing weights of an edge's logits.
        cell: class of the search cell.
        edge_columns: columns of alpha behind those of the operations.
    """

    order: Literal[1, 2] = 2
    mix: Mixing = "softmax"
    cell: ClassVar[type[SearchCell]] = SearchCell
    edge_columns: ClassVar[int] = 0

    def __init__(self, config: SearchConfig):
        self.config = config
        self.order = config.order or self.order
        self.mix = config.mixing or self.mix

    # the relaxation

    def schedule(self, epoch: int) -> float:
        """The number that `mixing` and `regulariser` get: 1 is the first epoch, 0 the untrained network."""
        return 0.0

    def mixing(self, alpha: Tensor, scheduled: Number) -> Tensor:
        """alpha -> mixing weights [E, K + cell.bypassed], differentiable.

        Args:
            scheduled: `schedule` of the epoch, in a CUDA graph a tensor on the device.
        """
        return mixing_weights(alpha, self.mix)

    # the gradient of alpha

    @property
    def unrolls(self) -> bool:
        """Whether an alpha step takes the training batch, too, for an unrolled weight step."""
        return self.order == 2

    @property
    def passes(self) -> float:
        """Rough cost of an iteration with alpha, in iterations without (one forward, one full backward)."""
        return 4.0 if self.unrolls else 2.0

    @property
    def train_passes(self) -> int:
        """Passes on the training batch in an iteration with alpha."""
        return 4 if self.unrolls else 1

    def alpha_gradient(
        self,
        train: Loss,
        low: Loss,
        val: Loss,
        alpha: Tensor,
        weights: FlatParameters,
        eta: Number,
        reduce: Reduce,
    ) -> AlphaGradient:
        """The gradient of alpha without the regulariser; alpha and weights are left as they are.

        Args:
            train, val: losses on the two batches, in the type of the weights.
            low: that on the training batch in the precision of the weight step.
            eta: the present learning rate of the weights.
            reduce: averages over ranks.
        """
        config, every = self.config, self.config.every_pass_updates
        if not self.unrolls:
            return first_order(val, alpha, weights, every_pass_updates=every, reduce=reduce)
        return second_order(
            train,
            val,
            alpha,
            weights,
            eta=eta,
            weight_decay=config.unroll_weight_decay,
            r=config.unroll_r,
            every_pass_updates=every,
            reduce=reduce,
            loss_unroll=low if config.flavour == "chase" else None,
        )

    def regulariser(self, alpha: Tensor, scheduled: Number) -> tuple[Number, Tensor] | None:
        """Weight and value of what is added to the validation loss and depends on alpha alone; None: nothing.
        Here the zero-one loss with `--zero-one-weight`."""
        config = self.config
        if not config.zero_one_weight:
            return None
        return config.zero_one_weight, zero_one_loss(self.logits(alpha), config.zero_one_kind)

    # from alpha to a cell

    def logits(self, alpha: Tensor) -> Tensor:
        """The columns [E, K] of the operations."""
        return alpha[:, : len(self.config.ops)]

    def ranking(self, alpha: Tensor) -> Tensor:
        """[E, K] weights by which edges and operations compete; the report shows them."""
        return mixing_weights(self.logits(alpha), self.mix)

    def derive(self, alpha: Tensor) -> Genotype:
        """The discrete cell."""
        config = self.config
        return derive(self.ranking(alpha.detach().cpu()), config.ops, config.derivation, config.none_counts)

    # what a run says

    def entropy(self, alpha: Tensor) -> float:
        """Mean entropy of the operations' weights, in nats."""
        return mixing_entropy(self.logits(alpha), self.mix)

    def numbers(self, epoch: int) -> dict[str, float]:
        """What history.jsonl says besides, by name."""
        return {}

    @property
    def about(self) -> str:
        """The method in words, for the first lines of a run."""
        order = "second-order (one unrolled weight step)" if self.unrolls else "first-order"
        return f"{self.config.method}: {order} gradient, {self.mix} mixing"
