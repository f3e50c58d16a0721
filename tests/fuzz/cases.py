"""The table of the campaign: which command runs on which clean input, what of it is damaged, who judges.

A command runs in a folder that holds the input as `in`; {net} is a trained network elsewhere.
"""

from tests.fuzz import corpus, media, oracles_files, oracles_frames, oracles_sets, sets
from tests.fuzz.judge import Case

_X, _Y, _W, _H = media.BOX
_TRACK = f"--box {_X},{_Y},{_W},{_H} --checkpoint {{net}} --out out"
_PATIENCE_S = 15.0  # a command line may ask for hours of work: then Ctrl-C must end it


def _videos() -> list[Case]:
    return [
        Case(
            "video",
            name,
            f"video/{name}",
            f"track in/{name} {_TRACK}",
            (name,),
            oracles_frames.frames_of_video,
        )
        for name in media.VIDEOS
    ]


def _images() -> list[Case]:
    """Every format is tracked; half of them are also looked at by the doctor, which decodes all frames."""
    track = f"track in/frames/walk {_TRACK}"
    cases = []
    for k, (name, (ending, _)) in enumerate(media.IMAGES.items()):
        clean, targets = f"images/{name}", (f"frames/walk/*{ending}",)
        cases.append(Case("image", name, clean, track, targets, oracles_frames.frames_of_folder))
        if k % 2 == 0:
            doctor = "doctor --data folder:in/frames"
            cases.append(Case("image", f"{name}, doctor", clean, doctor, targets, oracles_sets.visible))
    return cases


def _annotations() -> list[Case]:
    cases = []
    texts = ("**/*.txt", "**/*.label", "**/*.tag", "**/*.ini", "**/*.json")
    for kind, (_, split, _) in sets.LAYOUTS.items():
        command = f"evaluate --data {kind}:in/data{split} --results T=in/results --out out --pictures 1"
        targets = tuple(f"data/{t}" for t in texts)
        cases.append(
            Case(
                "annotation", f"{kind}, evaluate", f"benchmark/{kind}", command, targets, oracles_sets.scores
            )
        )
    for kind, split in sets.TRAINING.items():
        command = f"doctor --data {kind}:in/data{split}"
        targets = tuple(f"data/{t}" for t in texts)
        cases.append(
            Case("annotation", f"{kind}, doctor", f"training/{kind}", command, targets, oracles_sets.visible)
        )
    return cases


def _results() -> list[Case]:
    command = "evaluate --data got10k:in/data:val --results T=in/results --out out --pictures 0"
    return [
        Case("result files", layout, f"results/{layout}", command, ("results/**/*.txt",), oracles_sets.scores)
        for layout in ("got10k", "flat", "pytracking")
    ]


def _cells() -> list[Case]:
    draw = "report --cell in/cell.json --svg cell.svg"
    train = f"{corpus.TRAIN} --cell in/cell.json --out out --quiet"
    return [
        Case("cell", "drawn", "cell/search", draw, ("cell.json",), oracles_files.drawing),
        Case("cell", "drawn again", "cell/search", draw, ("cell.json",), oracles_files.drawing),
        Case("cell", "trained", "cell/search", train, ("cell.json",)),
    ]


def _runs() -> list[Case]:
    tables = ("run/*.json", "run/*.jsonl")
    resume, stored = "search --resume --out in/run --quiet", (*tables, "run/last.ckpt", "run/last.ckpt")
    again = "train --resume --out in/run --quiet"
    return [
        Case(
            "run folder",
            "page of a search",
            "run/search",
            "report in/run",
            tables,
            oracles_files.page,
            None,
            False,
        ),
        Case(
            "run folder",
            "page of a training",
            "run/train",
            "report in/run",
            tables,
            oracles_files.page,
            None,
            False,
        ),
        Case(
            "run folder", "search resumed", "run/stopped", resume, stored, oracles_files.resumed, None, False
        ),
        Case(
            "run folder",
            "comparison",
            "run/pair",
            "report in/run in/other --out out.html",
            tables,
            oracles_files.page,
        ),
        Case(
            "run folder",
            "search resumed again",
            "run/stopped",
            resume,
            stored,
            oracles_files.resumed,
            None,
            False,
        ),
        Case("run folder", "training resumed", "run/train", again, stored, None, None, False),
    ]


def _networks() -> list[Case]:
    name = ("best.safetensors",)
    track = (
        "track {frames} --box 10,44,20,14 --checkpoint in/best.safetensors --out out --frames 2 --no-video"
    )
    convert = "convert in/best.safetensors new.pth.tar"
    return [
        Case("safetensors", "tracked with", "net/train", track, name, oracles_files.weights),
        Case("safetensors", "converted", "net/train", convert, name, oracles_files.weights),
    ]


def _public() -> list[Case]:
    command = "convert in/net.pth.tar new.safetensors"
    return [
        Case("pickle", form, f"public/{form}", command, ("net.pth.tar",), oracles_files.converted)
        for form in ("zip", "legacy")
    ]


def _packed() -> list[Case]:
    command = "doctor --data packed:in/packed"
    return [
        Case(
            "packed set",
            form,
            f"packed/{form}",
            command,
            ("packed/*.bin", "packed/pack.json", "packed/index.npz"),
            oracles_files.whole_pack,
        )
        for form in ("raw", "jpeg")
    ]


def _command_lines() -> list[Case]:
    commands = {
        "track": f"track in/mpeg4.avi {_TRACK} --frames 3 --seed 1 --device cpu",
        "track two": f"track in/frames/walk --box 1,2,30,30 {_TRACK} --no-video --quiet --start 1"
        " --preset balanced",
        "evaluate": "evaluate --data got10k:in/data:val --results T=in/results --out out --protocol got10k"
        " --pictures 1 --unknown zero --quiet",
        "evaluate a network": "evaluate --data folder:in/data/val --checkpoint N={net} --workers 0"
        " --out out --seed 3 --device cpu",
        "doctor": "doctor --data folder:in/frames --json",
        "report": "report in/searched in/other --names a b --out page.html --markdown",
        "drawing": "report --cell in/cell.json --svg cell.svg",
        "convert": "convert {net} new.pth.tar",
        "pack": "data.pack folder:in/frames --out out --size 64 --workers 1 --format jpeg --quality 90"
        " --every 2",
        "search": f"{corpus.SEARCH} --epochs 2 --out out --quiet",
        "train": f"{corpus.TRAIN} --cell in/cell.json --out out --quiet",
    }
    return [
        Case("command line", name, "everything/all", command, (), None, _PATIENCE_S, False)
        for name, command in commands.items()
    ]


CASES = [
    *_videos(), *_images(), *_annotations(), *_results(), *_cells(), *_runs(), *_networks(), *_public(),
    *_packed(), *_command_lines(),
]  # fmt: skip
KINDS = list(dict.fromkeys(case.kind for case in CASES))

_QUICK = (
    ("video", "mpeg4.avi"), ("image", "jpeg"), ("image", "png"), ("annotation", "got10k, evaluate"),
    ("annotation", "vot, evaluate"), ("result files", "got10k"), ("result files", "flat"), ("cell", "drawn"),
    ("run folder", "search resumed"), ("run folder", "page of a search"), ("safetensors", "converted"),
    ("pickle", "zip"), ("packed set", "raw"), ("command line", "doctor"),
    ("command line", "convert"), ("command line", "evaluate"),
)  # fmt: skip
SHORT = [case for case in CASES if (case.kind, case.name) in _QUICK]
