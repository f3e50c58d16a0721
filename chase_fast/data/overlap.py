"""Whether the roles of data (train, val, ...) have sequences in common."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

from chase_fast.data.packed import PackedSequences
from chase_fast.data.sources import Source
from chase_fast.data.spec import parse_spec
from chase_fast.data.tables import StillTable


def _parts(source: Source) -> list[str]:
    """What two roles must not share: folders of videos, images of sets of still images."""
    if source.video or not isinstance(source.sequences, StillTable | PackedSequences):
        return source.keys()
    return source.sequences.stills()


def _shares(text: str, roles: int) -> str:
    """One share of a dataset per role."""
    spec = parse_spec(text)
    name = ":".join(filter(None, (spec.kind, spec.path, spec.split)))
    cuts = (0, 80, 100) if roles == 2 else (0, 60, 80, 100)
    return ", ".join(f"{name}:{a}-{b}%" for a, b in pairwise(cuts))


def overlaps(roles: Mapping[str, Iterable[Source]]) -> list[str]:
    """One sentence per pair of roles that share sequences: how many, the first of them, and the way out."""
    seen: dict[str, str] = {}
    sentences = []
    for role, sources in roles.items():
        for source in sources:
            keys = _parts(source)
            shared = [key for key in keys if seen.setdefault(key, role) != role]
            if not shared:
                continue
            which = shared[0]
            if len(keys) > 1:
                what = "sequences" if source.video else "images"
                which = f"{len(shared)} of {len(keys)} {what}, the first is {shared[0]}"
            way = "give them different sequences"
            if source.kind != "synthetic":
                way += f", for example {_shares(source.spec, len(roles))}"
            sentences.append(
                f"{seen[shared[0]]} and {role} share {which}: their losses are not independent, {way}"
            )
    return sentences
