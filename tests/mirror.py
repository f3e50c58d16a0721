"""An engine that is torch itself: for the native form of the tracker beside the torch form."""

import numpy as np
import torch

from chase_fast.engines.outputs import OUTPUTS
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.track.network import Network


class Mirror:
    about = "mirror"

    def __init__(self, net: TrackerNet):
        self.network = Network(net, "cpu")

    @torch.no_grad()
    def run(self, patches: np.ndarray, outputs: tuple[str, ...] = OUTPUTS) -> list[np.ndarray]:
        network, seen = self.network, torch.from_numpy(patches)
        features, layers = network.layers.first(seen)
        features = features.clone()
        maps = *network.layers.frame(seen)[1], *network.reference_maps(layers)
        found = dict(zip(OUTPUTS, (features, *(m.permute(0, 2, 3, 1) for m in maps)), strict=True))
        return [np.array(found[name].numpy(), order="C") for name in outputs]
