"""Silent wrong results of tracking: the bar codes in the annotated video say which frames were tracked.

Each oracle takes a `Trial` and gives what is wrong, or an empty text. A command that says anything that it
does not say of the clean input is not silent: what it does then is its own matter, as long as it says so.
"""

from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageFile

from tests.fuzz import media
from tests.fuzz.judge import Trial, said

ALIKE = 30.0  # grey levels between the squares of two decoders' pictures (the annotated video is lossy)


def _pictures(path: Path) -> tuple[list[np.ndarray], bool]:
    """Squares of the pictures that FFmpeg decodes from a file, and whether it complained of anything."""
    found, troubled = [], False
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as said_by_ffmpeg:
        try:
            with av.open(str(path)) as file:
                stream = file.streams.video[0]
                stream.codec_context.thread_count = 1
                for packet in file.demux(stream):
                    try:
                        for frame in packet.decode():
                            troubled |= bool(frame.is_corrupt)
                            found.append(media.squares(frame.to_ndarray(format="rgb24")))
                    except av.FFmpegError:
                        troubled = True
        except (av.FFmpegError, OSError, IndexError, ValueError):
            troubled = True
    return found, troubled or bool(said_by_ffmpeg)


def _annotated(box: Path) -> list[np.ndarray]:
    """Squares of every frame that was tracked, in the order of tracking; pictures shown for longer once."""
    files = sorted((box / "out").glob("annotated.*"))
    found = _pictures(files[0])[0] if files else []
    numbers = [media.number_of(p) for p in found]
    return [p for k, p in enumerate(found) if k == 0 or numbers[k] is None or numbers[k] != numbers[k - 1]]


def _tracked(box: Path) -> int:
    return len((box / "out" / "boxes.txt").read_text().splitlines())


def frames_of_video(trial: Trial) -> str:
    """Every frame that was tracked is one of the video and none is lost, or the command said something, or
    the file itself says so to a decoder that sees no damage."""
    shown, count = _annotated(trial.ending.box), _tracked(trial.ending.box)
    numbers = [media.number_of(p) for p in shown]
    if set(numbers) == set(range(media.COUNT)) and (trial.clean or numbers == list(range(media.COUNT))):
        return ""  # repeated frames are shown twice
    if trial.clean is None:
        return f"the frames of the clean video are shown as {numbers}"
    if said(trial):
        return ""
    reference, troubled = _pictures(trial.path)
    if troubled:
        return f"silent: {count} frames are shown as {numbers}, though FFmpeg reports damage"
    if count != len(reference):
        return f"silent: {count} frames are tracked, the file holds {len(reference)}"
    if None in numbers and not all(any(_alike(p, r) for r in reference) for p in shown):
        return f"silent: frames are shown as {numbers}, another decoder sees other pictures"
    return ""


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() < ALIKE)


def pillow(path: Path) -> np.ndarray | None:
    """Squares of an image as Pillow decodes it, None if it refuses it."""
    try:
        with Image.open(path) as image:
            image.load()
            deep = image.mode.startswith("I")
            pixels = np.asarray(image if deep or image.mode == "F" else image.convert("RGB"), np.float64)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    scale = 1 / 257 if deep and pixels.max() > 255 else 255 if pixels.max() <= 1 else 1
    return media.squares(pixels * scale) if pixels.ndim in (2, 3) and min(pixels.shape[:2]) >= 12 else None


def same_pixels(path: Path, clean: Path) -> bool:
    """Whether nothing of the pixels is missing, as in a JPEG without its end mark: Pillow, told to go on."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with Image.open(path) as image, Image.open(clean) as whole:
            return (
                image.size == whole.size and image.convert("RGB").tobytes() == whole.convert("RGB").tobytes()
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def frames_of_folder(trial: Trial) -> str:
    """As `frames_of_video`, of a folder of images; the other decoder is Pillow."""
    shown, count = _annotated(trial.ending.box), _tracked(trial.ending.box)
    numbers = [media.number_of(p) for p in shown]
    if numbers == list(range(media.FRAMES)) and count == media.FRAMES:
        return ""
    if trial.clean is None:
        return f"the frames of the clean folder are shown as {numbers}"
    if said(trial):
        return ""
    names = [p.name for p in sorted(trial.clean_path.parent.glob("0*"))]
    outer = Path(trial.mutation.path).name in (names[0], names[-1]) and not trial.path.exists()
    if count != media.FRAMES:  # nobody misses the first or the last one
        return "" if outer and None not in numbers else f"silent: {count} of {media.FRAMES} frames"
    other = pillow(trial.path) if trial.path.is_file() else None
    odd = [k for k, n in enumerate(numbers) if n != k]
    if other is not None and len(odd) == 1 and _alike(shown[odd[0]], other):
        return ""
    word = "refuses the file" if other is None else "sees another"
    return f"silent: frames are shown as {numbers}, Pillow {word}"
