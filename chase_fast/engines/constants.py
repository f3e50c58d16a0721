"""What `chase_fast_C.TrackerModel` is made of, as plain data: csrc/tracker/model.h reads it.

Numbers are lists: a switch is 0 or 1, a choice its place, an absent value an empty list. Free of torch but
for the networks that `constants_of` is given.
"""

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from chase_fast.errors import ChaseError

if TYPE_CHECKING:
    from chase_fast.nn.tracker_net import TrackerNet

Numbers = dict[str, list[float]]
Arrays = dict[str, np.ndarray]


def constants_of(net: "TrackerNet") -> tuple[Numbers, Arrays]:
    """Learned constants and small layers of a network, batch norms folded, as float32.

    Raises:
        ChaseError: the net has no box regressor.
    """
    from torch import nn

    from chase_fast.nn.inference import fold
    from chase_fast.nn.target_classifier import PrDiMPOptimizer

    if net.bb_regressor is None:
        raise ChaseError("this network has no box regressor: a tracker needs one, train it with boxes")
    boxes, start, solver = (
        fold(net.bb_regressor),
        net.classifier.filter_initializer,
        net.classifier.filter_optimizer,
    )
    numbers: dict[str, Any] = {
        "channels": start.filter_conv.in_channels,
        "filter_size": start.filter_size,
        "prdimp": isinstance(solver, PrDiMPOptimizer),
        "log_step_length": solver.log_step_length.item(),
        "filter_reg": solver.filter_reg.item(),
        "min_filter_reg": solver.min_filter_reg,
        "alpha_eps": solver.alpha_eps,
        "softmax_reg": getattr(solver, "softmax_reg", None),
    }
    arrays: dict[str, Any] = {
        "initializer.weight": start.filter_conv.weight.flatten(1),
        "initializer.bias": start.filter_conv.bias,
    }
    if isinstance(solver, PrDiMPOptimizer):
        names = ("sigma", "label_threshold", "normalize_label", "uniform_weight", "label_shrink")
        numbers |= {name: getattr(solver, name) for name in names}
    else:
        mask, activation = cast(list[nn.Module], solver.target_mask_predictor)
        numbers |= {"bins": solver.bins, "bin_spacing": solver.bin_spacing}
        numbers["sigmoid_mask"] = isinstance(activation, nn.Sigmoid)
        maps = solver.label_map_predictor, cast(nn.Conv2d, mask), solver.spatial_weight_predictor
        for name, conv in zip(("label_map", "target_mask", "spatial_weight"), maps):
            arrays[name] = conv.weight.flatten()
    for name in ("fc3_1r", "fc34_3r", "fc34_4r"):
        conv = getattr(boxes, name)[0]
        arrays |= {f"{name}.weight": conv.weight.flatten(1), f"{name}.bias": conv.bias}
    hidden = boxes.fc3_rt.linear.out_features
    outs = boxes.iou_predictor.weight[0].split(hidden)
    for name, out in zip(("fc3_rt", "fc4_rt"), outs, strict=True):
        linear = getattr(boxes, name).linear
        arrays |= {f"{name}.weight": linear.weight, f"{name}.bias": linear.bias, f"{name}.out": out}
    arrays["head_bias"] = boxes.iou_predictor.bias
    numbers |= {
        "pool_channels": len(arrays["fc34_3r.bias"]),
        "hidden": hidden,
        "reference_low": boxes.conv3_1r[0].out_channels,
        "reference_high": boxes.conv4_1r[0].out_channels,
        "fc3_1r": len(arrays["fc3_1r.bias"]),
    }
    as_numbers = {name: [] if value is None else [float(value)] for name, value in numbers.items()}
    return as_numbers, {
        name: np.ascontiguousarray(t.detach().float().cpu().numpy()) for name, t in arrays.items()
    }
