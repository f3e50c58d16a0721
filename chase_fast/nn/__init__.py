"""Modules of the network, without input or output: necks and cells, backbone, classifier, box regressor.

Those below are for networks of your own, too; they are imported when they are first used.
"""

from typing import TYPE_CHECKING

from chase_fast.lazy import front_door

if TYPE_CHECKING:
    from chase_fast.nn.box_regressor import AtomIoUNet
    from chase_fast.nn.derived_cell import DerivedCell
    from chase_fast.nn.genotype import CHASE, Genotype
    from chase_fast.nn.neck import DerivedNeck, SearchNeck
    from chase_fast.nn.norm import GroupBatchNorm
    from chase_fast.nn.operations import register_operation
    from chase_fast.nn.roi_pool import PrRoIPool
    from chase_fast.nn.search_cell import SearchCell
    from chase_fast.nn.spec import TrackerSpec
    from chase_fast.nn.target_classifier import FilterInitializer, PrDiMPOptimizer
    from chase_fast.nn.tracker_net import TrackerNet

__all__ = [
    "CHASE",
    "AtomIoUNet",
    "DerivedCell",
    "DerivedNeck",
    "FilterInitializer",
    "Genotype",
    "GroupBatchNorm",
    "PrDiMPOptimizer",
    "PrRoIPool",
    "SearchCell",
    "SearchNeck",
    "TrackerNet",
    "TrackerSpec",
    "register_operation",
]
_FILES = {
    "box_regressor": ("AtomIoUNet",),
    "derived_cell": ("DerivedCell",),
    "genotype": ("CHASE", "Genotype"),
    "neck": ("DerivedNeck", "SearchNeck"),
    "norm": ("GroupBatchNorm",),
    "operations": ("register_operation",),
    "roi_pool": ("PrRoIPool",),
    "search_cell": ("SearchCell",),
    "target_classifier": ("FilterInitializer", "PrDiMPOptimizer"),
    "spec": ("TrackerSpec",),
    "tracker_net": ("TrackerNet",),
}
front_door(__name__, {name: f"{__name__}.{file}" for file, names in _FILES.items() for name in names})
