"""``python -m model predict``: what a model makes of video files."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import torch
from torch import Tensor

from loaders.evaluation_loader import EvaluationClipError, EvaluationLoader
from loaders.video_files import VideoFileError, stored_videos
from loaders.views import TEST_SAMPLINGS, EvaluationConfig
from model.classifier import Classifier
from model.commands.class_names import read_class_names
from model.commands.errors import CommandError
from model.evaluation import predict
from model.foreign_weights import open_weights
from model.pictures import reconstruction_sheet
from model.pretrainer import Pretrainer
from model.transfer import filled
from warehouse.catalog.sample import Sample
from warehouse.commands.numbers import at_least_one
from warehouse.store import replace_file

COLUMNS = 4
"""Time steps that a picture shows."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        help="the likeliest classes of videos, or a picture of what a pre-trained model makes of them",
        description="A classifier names the likeliest classes of each video, in the views of VideoMAE V2's test on"
        " Kinetics: 5 windows in time × 3 squares, every 4th frame. A pre-trained model draws each video three times:"
        " as it is, as the encoder sees it, and as it is reconstructed. Videos are read as a run would store them, so"
        " that a prediction is what an evaluation makes of the same clip.",
        epilog="Something-Something is tested in other views: --sampling segments --views 2x3",
    )
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO", help="a file; each is one clip, all of it")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="PATH", help="folder of a checkpoint (runs/RUN/checkpoints/"
        "step-N), or weights in any layout that `python -m model convert` reads"
    )  # fmt: skip
    parser.add_argument("--classes", type=Path, metavar="FILE", help="class names, one a line, where PATH has none")
    parser.add_argument(
        "--top", type=at_least_one, default=5, metavar="N", help="classes to name (default: %(default)s)"
    )
    parser.add_argument("--views", type=_views, default="5x3", help="windows x squares (default: %(default)s)")
    parser.add_argument("--sampling", choices=tuple(TEST_SAMPLINGS), default="dense", help="default: %(default)s")
    parser.add_argument("--stride", type=at_least_one, default=4, help="as `stride` of a source (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="PNG to write: of a pre-trained model")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Predict, and say of each video that cannot be used why.

    Raises CommandError at the end if there was one, and before anything is done for options that do not fit the model.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _model(options).to(device).eval()
    said: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        videos = _usable(options, Path(folder), said)
        if isinstance(model, Classifier):
            _classify(model, videos, options, device, said)
        else:
            _draw(model, videos, options, device, said)
    if options.json:
        print(json.dumps({"checkpoint": str(options.checkpoint), "videos": said}))
    failed = sum("error" in answer for answer in said)
    if failed:
        raise CommandError(f"{failed} of {len(said)} videos could not be used")


def _model(options: argparse.Namespace) -> Classifier | Pretrainer:
    path = options.checkpoint
    model = filled(open_weights(path, class_names=read_class_names(options.classes)).weights)
    if isinstance(model, Classifier):
        if options.out:
            raise CommandError(f"{path} is a classifier and draws nothing: leave --out away, or give another model")
        return model
    if not isinstance(model, Pretrainer):
        raise CommandError(
            f"{path} is a feature extractor, which names no classes. Give a classifier, or a pre-trained model"
        )
    if options.out is None or options.out.suffix.lower() != ".png":
        raise CommandError(f"{path} is a pre-trained model, which draws: say where with --out FILE.png")
    if options.out.exists() or not options.out.parent.is_dir():
        why = "is there already" if options.out.exists() else "lies in a folder that is not there"
        raise CommandError(f"{options.out} {why}. Name another file")
    return model


def _usable(options: argparse.Namespace, folder: Path, said: list[dict[str, Any]]) -> Iterator[tuple[Path, Sample]]:
    """The videos that can be used; of the others it is said why not."""
    for path, sample in stored_videos(options.videos, options.stride, folder):
        if isinstance(sample, VideoFileError):
            _say_error(path, sample, said)
        else:
            yield path, sample


def _say_error(path: Path, error: Exception, said: list[dict[str, Any]]) -> None:
    words = " ".join(str(error).split())
    print(f"python -m model: {words}", file=sys.stderr)
    said.append({"video": str(path), "error": words})


def _classify(
    model: Classifier,
    videos: Iterator[tuple[Path, Sample]],
    options: argparse.Namespace,
    device: torch.device,
    said: list[dict[str, Any]],
) -> None:
    config, names = model.config, model.config.class_names
    temporal, spatial = options.views
    views = EvaluationConfig(1, config.frames, config.image, temporal, spatial, options.sampling)
    for path, sample in videos:
        try:
            [prediction] = predict(model, EvaluationLoader([sample], views), device)
        except EvaluationClipError as error:
            _say_error(path, error, said)
            continue
        best = (-prediction.probabilities).argsort(kind="stable")[: options.top].tolist()
        top = [{"class": names[place], "probability": float(prediction.probabilities[place])} for place in best]
        said.append({"video": str(path), "frames": sample.frames, "views": prediction.views, "top": top})
        if not options.json:
            print(f"{path}  ({sample.frames} frames, {prediction.views} views)")
            for place in best:
                print(f"  {prediction.probabilities[place]:7.1%}  {names[place]}")


def _draw(
    model: Pretrainer,
    videos: Iterator[tuple[Path, Sample]],
    options: argparse.Namespace,
    device: torch.device,
    said: list[dict[str, Any]],
) -> None:
    """A picture of the middle of each video, its central square."""
    view = EvaluationConfig(1, model.config.frames, model.config.image, sampling=options.sampling)
    frames_VTSS3: list[Tensor] = []
    for path, sample in videos:
        try:
            [batch] = EvaluationLoader([sample], view)
        except EvaluationClipError as error:
            _say_error(path, error, said)
            continue
        frames_VTSS3.append(batch.frames.clone())
        said.append({"video": str(path), "frames": sample.frames, "picture": str(options.out)})
    if not frames_VTSS3:
        return
    masks = torch.Generator(device).manual_seed(0)
    sheet = reconstruction_sheet(model, torch.cat(frames_VTSS3).to(device), masks, COLUMNS)
    replace_file(options.out, cv2.imencode(".png", sheet[:, :, ::-1])[1].tobytes())
    if not options.json:
        print(f"{options.out}: of each video in turn three rows of {COLUMNS} frames: as it is, what the encoder sees,")
        print("and the reconstruction, with the mean and spread of each cube taken from the video")
        for answer in said:
            if "picture" in answer:
                print(f"  {answer['video']}")


def _views(text: str) -> tuple[int, int]:
    numbers: Sequence[str] = text.split("x")
    if len(numbers) != 2 or not all(number.isdecimal() and int(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers such as 5x3: windows in time x squares")
    return int(numbers[0]), int(numbers[1])
