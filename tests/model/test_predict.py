"""``python -m model predict`` on real files: equal to an evaluation, a bad file among good ones, each kind of model."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from loaders.evaluation_loader import EvaluationConfig, EvaluationLoader
from model.__main__ import main
from model.classifier import Classifier, ClassifierConfig
from model.evaluation import evaluate
from model.features import FeatureConfig, FeatureExtractor
from model.pictures import GAP_PX
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES
from model.weights import WEIGHTS, write_weights
from warehouse.catalog.sample import Sample
from warehouse.corpus.encoding import write_sound, write_video
from warehouse.curation.probe import probe_and_hash
from warehouse.media_file import MediaFile
from warehouse.shards.reader import read_sample
from warehouse.shards.shard_plan import MEDIA_KEYS, Member, ShardPlan
from warehouse.shards.writer import write_shards

TINY = SIZES["tiny"]
NAMES = ("drift", "zoom", "turn", "übung")
Model = Classifier | Pretrainer | FeatureExtractor
Answer = Callable[..., tuple[int, dict[str, object], str]]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two that a shard would not take as they are: other sizes, other groups of pictures, another codec."""
    folder = tmp_path_factory.mktemp("videos")
    paths = [folder / "first.mp4", folder / "second.webm"]
    for number, path in enumerate(paths):
        y, x = np.mgrid[0 : 272 - 100 * number, 0:320].astype(np.float32)
        waves = [np.stack([np.sin(x / 19 + t / 5), np.sin(y / 17 - t / 7), np.cos(x / 9 + number)], -1)
                 for t in range(90 - 40 * number)]  # fmt: skip
        write_video(path, (np.stack(waves) * 100 + 128).astype(np.uint8), fps=25)
    return paths


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights of each kind, by its name."""
    generator = torch.Generator().manual_seed(3)
    models: list[Model] = [
        Classifier(ClassifierConfig(TINY, 8, 48, NAMES, init_scale=50.0), generator),
        Pretrainer(PretrainerConfig(TINY, 8, 48), generator),
        FeatureExtractor(FeatureConfig(TINY, 8, 48), generator),
    ]
    folder = tmp_path_factory.mktemp("weights")
    for model in models:
        (folder / model.kind).mkdir()
        write_weights(folder / model.kind / WEIGHTS, model.kind, model.config, model.state_dict())
    torch.save({"model": models[0].state_dict()}, folder / "official.pth")
    save_file({"weight": torch.zeros(2)}, folder / "odd.safetensors", {"reelhouse": "nonsense"})
    for step in ("step-000005", "step-000010"):
        (folder / "run" / "checkpoints" / step).mkdir(parents=True)
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Answer:
    """Runs the command with ``--json``: exit code, what it printed, and its errors."""

    def run(*arguments: object) -> tuple[int, dict[str, object], str]:
        code = main(["predict", *map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out or "{}"), err

    return run


def in_a_shard(folder: Path, paths: list[Path]) -> list[Sample]:
    """The videos as a run stores them, one after the other in a tar."""
    members = []
    for path in paths:
        found = probe_and_hash(MediaFile(str(path))).media
        members.append(Member(path.stem, MediaFile(str(path)), True, **{key: found[key] for key in MEDIA_KEYS}))
    plan = ShardPlan(str(folder), "shard-0", "src", "np256", 4, tuple(members))
    [sidecar] = write_shards([plan])
    return [
        Sample(
            clip.key, "src", "val", 1, 1.0, 4, plan.tar, clip.offset, clip.size, clip.sha256, clip.codec, clip.fps,
            clip.frames, clip.width, clip.height,
        )
        for clip in sidecar.members
    ]  # fmt: skip


def probabilities(video: dict[str, object]) -> list[float]:
    """In the order of the classes."""
    top = {one["class"]: one["probability"] for one in video["top"]}  # type: ignore[attr-defined]
    return [top[name] for name in NAMES]


@pytest.mark.parametrize("how", [("dense", 5, 3), ("segments", 2, 1)])
def test_a_prediction_is_that_of_an_evaluation(
    how: tuple[str, int, int], videos: list[Path], checkpoints: dict[str, Path], tmp_path: Path, answer: Answer
) -> None:
    """Of the source's files, and of a clip that was taken out of a shard."""
    sampling, temporal, spatial = how
    samples = in_a_shard(tmp_path, videos)
    extracted = tmp_path / "extracted.mp4"
    extracted.write_bytes(read_sample(samples[0]))
    views = EvaluationConfig(2, 8, 48, temporal, spatial, sampling)  # type: ignore[arg-type]
    model = Classifier(ClassifierConfig(TINY, 8, 48, NAMES))
    model.load_state_dict(torch.load(checkpoints["official"])["model"])
    scores = evaluate(model, EvaluationLoader(samples, views), [s.clip_id for s in samples], torch.device("cpu"))
    expected = [prediction.probabilities for prediction in scores.predictions]
    assert np.abs(expected[0] - expected[1]).max() > 0.01  # else equal would mean nothing

    options = ["--views", f"{temporal}x{spatial}", "--sampling", sampling]
    code, said, err = answer(*videos, extracted, "--checkpoint", checkpoints["classifier"], *options)
    assert (code, err) == (0, "")
    found = said["videos"]
    assert isinstance(found, list)
    assert [(one["video"], one["frames"], one["views"]) for one in found] == [
        (str(path), frames, temporal * spatial) for path, frames in ((videos[0], 90), (videos[1], 50), (extracted, 90))
    ]
    for one, wanted in zip(found, [*expected, expected[0]], strict=True):
        assert probabilities(one) == pytest.approx(wanted.tolist(), abs=1e-6)


def test_one_that_cannot_be_used_does_not_stop_the_others(
    videos: list[Path], checkpoints: dict[str, Path], tmp_path: Path, answer: Answer
) -> None:
    text, cut, sound, single = (tmp_path / name for name in ("notes.mp4", "cut.mp4", "sound.mp4", "single.mp4"))
    text.write_text("no video")
    cut.write_bytes(videos[0].read_bytes()[: videos[0].stat().st_size // 2])
    write_sound(sound, 1.0, "key")
    write_video(single, np.full((1, 64, 64, 3), 90, np.uint8), fps=25)
    missing, folder = tmp_path / "none.mp4", tmp_path / "folder"
    folder.mkdir()
    given = [missing, text, single, folder, sound, cut, videos[1]]
    code, said, err = answer(*given, "--checkpoint", checkpoints["classifier"], "--top", 1, "--views", "1x1")
    found = said["videos"]
    assert code == 1 and isinstance(found, list)
    assert [one["video"] for one in found] == [str(path) for path in given]
    assert [one["frames"] for one in found if "top" in one] == [1, 50]
    for one in found:
        assert ("error" in one) != (len(one.get("top", [])) == 1)
    lines = err.splitlines()
    expected = {missing: "missing_file.*Check the path", text: "unreadable_container.*Fetch it again",
                folder: "is a folder. Name the video files", sound: "no_video_stream.*with video in it",
                cut: "truncated.*Fetch it again"}  # fmt: skip
    assert len(lines) == 6 and lines[-1].endswith("5 of 7 videos could not be used")
    for line, (path, words) in zip(lines, expected.items(), strict=False):
        assert str(path) in line
        assert re.search(words, line), line


def test_people_read_classes(
    videos: list[Path], checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(videos[0]), "--checkpoint", str(checkpoints["classifier"]), "--top", "2"]) == 0
    first, *classes = capsys.readouterr().out.splitlines()
    assert first == f"{videos[0]}  (90 frames, 15 views)"
    shares = [float(line.split("%")[0]) for line in classes]
    assert len(shares) == 2 and shares == sorted(shares, reverse=True) and sum(shares) <= 100
    assert all(line.split()[-1] in NAMES for line in classes)


def test_a_pretrained_model_draws(
    videos: list[Path], checkpoints: dict[str, Path], tmp_path: Path, answer: Answer
) -> None:
    out = tmp_path / "picture.png"
    code, said, err = answer(
        videos[0], tmp_path / "none.mp4", videos[1], "--checkpoint", checkpoints["pretrainer"], "--out", out
    )
    assert code == 1 and "none.mp4: missing_file" in err
    assert [one.get("picture") for one in said["videos"]] == [str(out), None, str(out)]  # type: ignore[attr-defined]
    picture, cell = cv2.imread(str(out)), 48 + GAP_PX
    assert picture is not None
    sheet = picture[:, :, ::-1]
    assert sheet.shape == (6 * cell - GAP_PX, 4 * cell - GAP_PX, 3)
    for number, sample in enumerate(in_a_shard(tmp_path, videos)):
        [batch] = EvaluationLoader([sample], EvaluationConfig(1, 8, 48))
        top = 3 * number * cell
        assert np.array_equal(sheet[top : top + 48, :48], batch.frames[0, 0].numpy())
        assert np.array_equal(sheet[top : top + 48, 3 * cell :], batch.frames[0, 7].numpy())
        masked = sheet[top + cell : top + cell + 48]
        assert (masked == 128).all(-1).mean() > 0.8  # nine of ten cubes are hidden, and the gaps are white


@pytest.mark.parametrize(
    ("checkpoint", "options", "message"),
    [
        ("features", [], "is a feature extractor, which names no classes. Give a classifier"),
        ("pretrainer", [], r"say where with --out FILE\.png"),
        ("pretrainer", ["--out", "picture.jpg"], r"say where with --out FILE\.png"),
        ("pretrainer", ["--out", "nowhere/picture.png"], r"picture\.png lies in a folder that is not there"),
        ("classifier", ["--out", "picture.png"], "a classifier and draws nothing"),
        ("official", [], r"official\.pth has a head of 4 classes.*--classes"),
        (".", [], "holds several models. Give the folder of one: classifier, features, pretrainer"),
        ("none", [], "none.*no such file"),
        ("run", [], r"run is the folder of a run\. Give its newest checkpoint: .*run/checkpoints/step-000010$"),
        ("odd", [], r"odd\.safetensors: its header is not one that this version writes"),
    ],
)
def test_what_does_not_fit_the_model_is_said_before_anything_is_done(
    checkpoint: str,
    options: list[str],
    message: str,
    videos: list[Path],
    checkpoints: dict[str, Path],
    answer: Answer,
) -> None:
    folder = checkpoints["official"].parent
    path = checkpoints.get(checkpoint, folder / checkpoint)
    code, said, err = answer(videos[0], "--checkpoint", path, *options)
    assert (code, said) == (1, {}) and err.count("\n") == 1
    assert re.search(message, err), err


def test_official_weights_are_read_with_the_names_of_their_classes(
    videos: list[Path], checkpoints: dict[str, Path], tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("\n".join(NAMES))
    with pytest.MonkeyPatch.context() as patch:
        # An official file says nothing of its clips: they would be of 16 × 224².
        patch.setattr("model.foreign_weights.FRAMES", 8)
        patch.setattr("model.foreign_weights.IMAGE", 48)
        code, official, _ = answer(videos[1], "--checkpoint", checkpoints["official"], "--classes", names)
    assert code == 0
    code, ours, _ = answer(videos[1], "--checkpoint", checkpoints["classifier"])
    assert code == 0 and official["videos"] == ours["videos"]
    for option, value, said in (("--views", "5", "two numbers such as 5x3"), ("--top", "0", "number of 1 or more")):
        with pytest.raises(SystemExit):
            main(["predict", str(videos[1]), "--checkpoint", str(checkpoints["classifier"]), option, value])
        assert said in capsys.readouterr().err
