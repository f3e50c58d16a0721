"""Samples per second and core: `python bench/data.py [--packed packed:DIR] [--data SPEC ...]`

Without --data, 720p JPEG frames are made in a temporary folder: the synthetic videos enlarged to 1280 x 720,
with texture and sensor noise, quality 90, 4:2:0. The baseline is the sample as a user would write it: cv2.imread, the
window with cv2.copyMakeBorder, cv2.resize, torch normalisation; the same frames, windows, labels and
proposals. One thread; time is processor time of the thread, so that other programs on the machine count less; repeats of all
candidates are interleaved, medians are printed. A speed-up is printed only if the samples agree.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from chase_fast.data import SampleRecipe, SampleSet, open_sources  # noqa: E402
from chase_fast.data import sampler as sampler_module  # noqa: E402
from chase_fast.data.synthetic import SyntheticSequence  # noqa: E402
from chase_fast.kernels.crop import IMAGENET_MEAN, IMAGENET_STD, crop_window  # noqa: E402

SIZE_HW, QUALITY, LENGTH = (720, 1280), 90, 24
# the same arithmetic in another order: a unit of the last place of float32, some times
TOLERANCE = 2e-6
# a packed crop is resampled from a reduced frame: root mean square, normalised units
PACKED_TOLERANCE = 0.15


def make_frames(root: Path, sequences: int) -> None:
    """Sequences of 720p JPEG frames in the `folder` layout."""
    rng = np.random.default_rng(0)
    grain = rng.standard_normal((*SIZE_HW, 3)).astype(np.float32) * 3
    for number in range(sequences):
        video = SyntheticSequence("bench", number)
        folder = root / f"video{number:02d}"
        folder.mkdir(parents=True)
        lines = []
        scale = SIZE_HW[1] / video.frame(0).shape[1]
        for i in range(LENGTH):
            image = video.frame(i)
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)[: SIZE_HW[0]]
            image = (image + np.roll(grain, int(rng.integers(1000)), 1)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{i + 1:05d}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            lines.append(",".join(f"{v:.2f}" for v in video.boxes[i] * scale))
        (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")


class Baseline(SampleSet):
    """The same samples, frame by frame with OpenCV and torch."""

    def _build(self, rng, sequence, frames, images):
        self._frames = {}
        self._now = iter([sequence.path(i) for i in frames.tolist()])
        return super()._build(rng, _WithoutPixels(sequence), frames, images)

    def _crop(self, out, frame, box, about, grey, gain):
        recipe = self.recipe
        path = next(self._now)
        if path not in self._frames:
            self._frames[path] = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        image = self._frames[path]
        window = crop_window(about, image.shape[:2], recipe.search_factor, recipe.size)
        image = image[: image.shape[0] - window.trim_y, : image.shape[1] - window.trim_x]
        if grey:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        x0, y0, side = window.x0, window.y0, window.side
        height, width = image.shape[:2]
        # crop_window shifts windows into the image: they never lie wholly outside
        part = image[max(y0, 0) : y0 + side, max(x0, 0) : x0 + side]
        border = max(-y0, 0), max(y0 + side - height, 0), max(-x0, 0), max(x0 + side - width, 0)
        if any(border):
            part = cv2.copyMakeBorder(part, *border, cv2.BORDER_REPLICATE)
        part = cv2.resize(part, (recipe.size, recipe.size), interpolation=cv2.INTER_LINEAR)
        tensor = torch.from_numpy(part).float().div(255).mul(gain).clamp(0, 1)
        out[:] = ((tensor - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).numpy()
        return window.to_crop(box, recipe.size)


class _WithoutPixels:
    """A sequence for Baseline: it reads the frames itself."""

    def __init__(self, sequence):
        self.boxes = sequence.boxes

    def picture(self, index):
        return None

    def frame(self, index):
        return np.zeros((1, 1, 3), np.uint8)


def clock() -> float:
    return time.thread_time()


class Stages:
    """Time inside the parts of a sample, by wrapping the functions that the sampler calls."""

    def __init__(self, samples: SampleSet):
        self.seconds = dict.fromkeys(("read and decode", "crop", "labels", "proposals"), 0.0)
        self._undo = []
        self._wrap(sampler_module, "crop_into", "crop")
        for name in ("gaussian_density", "gaussian_label", "normalise_density"):
            self._wrap(sampler_module, name, "labels")
        self._wrap(sampler_module, "gmm_proposals", "proposals")
        kinds = {type(s) for source in samples.sources for s in [source.sequences[0]]}
        for kind in kinds:
            self._wrap(kind, "picture", "read and decode")
            self._wrap(kind, "frame", "read and decode")
        frames = {type(source.sequences[0].picture(0)) for source in samples.sources}
        for kind in frames:
            self._wrap(kind, "part", "read and decode")

    def _wrap(self, owner, name, stage):
        function = getattr(owner, name)

        def timed(*args, **kwargs):
            start = clock()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[stage] += clock() - start

        had = name in vars(owner)
        setattr(owner, name, timed)
        self._undo.append((owner, name, function, had))

    def close(self):
        for owner, name, function, had in reversed(self._undo):
            setattr(owner, name, function) if had else delattr(owner, name)


def mismatch(a, b) -> tuple[float, float]:
    """Largest and root mean square difference of two samples' images; labels must be equal."""
    assert np.array_equal(a.label, b.label) and np.array_equal(a.boxes, b.boxes), "not the same sample"
    difference = np.asarray(a.images, np.float64) - np.asarray(b.images, np.float64)
    return float(np.abs(difference).max()), float(np.sqrt(np.square(difference).mean()))


def run(specs: list[str], packed: list[str], count: int) -> None:
    recipe = SampleRecipe(proposals="prdimp")
    sources = open_sources(specs)
    candidates = {"baseline": Baseline(sources, recipe, 0, count), "unpacked": SampleSet(sources, recipe, 0, count)}
    candidates |= {spec: SampleSet(open_sources(spec), recipe, 0, count) for spec in packed}
    errors = {}
    for name, samples in candidates.items():
        if name != "baseline":
            found = [mismatch(samples.sample(0, i), candidates["baseline"].sample(0, i)) for i in range(min(count, 8))]
            errors[name] = tuple(max(f) for f in zip(*found))
    buffers = np.empty((recipe.train_frames + recipe.test_frames, recipe.size, recipe.size, 3), np.float32)
    times = {name: [] for name in candidates}
    for i in range(count):
        for name, samples in candidates.items():
            start = clock()
            samples.sample(0, i, buffers)
            times[name].append(clock() - start)
    base = statistics.median(times["baseline"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        line = f"{name:24s} {median * 1e3:7.2f} ms/sample  {1 / median:7.1f} samples/s per core"
        if name != "baseline":
            largest, rms = errors[name]
            bad = rms > PACKED_TOLERANCE if name in packed else largest > TOLERANCE
            ratio = statistics.median([b / s for b, s in zip(times["baseline"], seconds)])
            line += f"  mismatch {largest:.2g} (rms {rms:.2g})  "
            line += "REFUSED: other results" if bad else f"{base / median:.2f}x (pairs {ratio:.2f}x)"
        print(line)
    for name in list(candidates)[1:]:
        stages = Stages(candidates[name])
        start = clock()
        for i in range(count):
            candidates[name].sample(0, i, buffers)
        total = clock() - start
        stages.close()
        stages.seconds["other"] = total - sum(stages.seconds.values())
        parts = ", ".join(f"{k} {v / count * 1e3:.2f}" for k, v in stages.seconds.items())
        print(f"{name}, mean ms by stage: {parts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", help="dataset specs of JPEG videos; default: made here")
    parser.add_argument("--packed", nargs="+", default=[], help="the same data packed, e.g. packed:DIR")
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--make", help="keep the frames in this folder (to pack them)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if options.data:
        return run(options.data, options.packed, options.samples)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(options.make or temporary)
        if not any(root.glob("video*")):
            make_frames(root, 10)
        sizes = [f.stat().st_size for f in root.glob("*/*.jpg")]
        print(f"{len(sizes)} frames of 1280x720, {statistics.median(sizes) / 1e3:.0f} kB (median)")
        run([f"folder:{root}"], options.packed, options.samples)


if __name__ == "__main__":
    main()
