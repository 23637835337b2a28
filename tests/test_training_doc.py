"""The tables of docs/training.md are those of ``pipelines.published``, and what it tells a person to type is there."""

import argparse
import os
import re
import shlex
import signal
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from assets.amounts import seconds_text
from model.commands import convert, predict
from model.flops import PEAK_TFLOPS, forward_macs
from pipelines import published
from pipelines.__main__ import main
from pipelines.paper import paper
from pipelines.published import Row
from pipelines.recipe import classifier, model_configs
from pipelines.training_cost import GPU, MFU, training_cost
from warehouse.config import load

ROOT = Path(__file__).parent.parent
DOC = (ROOT / "docs" / "training.md").read_text()
HEADER = (
    "| | videos a step | rate for 256 | epochs, warm-up | weight decay | layer decay | drop path | dropout | clip |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
)


def _line(name: str, row: Row) -> str:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:g}"

    cells = [
        name, f"{row.videos:,}", f"{row.base_rate:g}", f"{row.epochs}, {row.warmup}",
        *map(number, (row.weight_decay, row.layer_decay, row.drop_path, row.head_dropout, row.clip_grad)),
    ]  # fmt: skip
    ours = any("no source" in note for note in row.notes)
    return f"| {' | '.join([cells[0] + (' ¹' if ours else ''), *cells[1:]])} |"


TABLES = {
    "Pre-training": [_line(size, row) for size, row in published.PRETRAINING.items()],
    "Post-pre-training": [_line(size, published.post_pretraining(size)) for size in ("B", "L", "H", "g")],
    "Fine-tuning": [
        *(_line(f"{task.replace('_', '-')}, {size}", row) for (task, size), row in published.DIRECT.items()),
        *(_line(f"kinetics after K710, {size}", row) for size, row in published.AFTER_K710.items()),
    ],
    "Distillation": [_line(task.replace("_", "-"), row) for task, row in published.DISTILLATION.items()],
}


def _estimates() -> list[str]:
    """Expected times of 8 GPUs for the paper's collections."""
    sizes, cells = ("B", "L", "H", "g"), {}
    stages = {
        "pre-training, 1.35M clips": ("pretrained", True),
        "post-pre-training on K710": ("post_pretrained", True),
        "Kinetics-400 after K710": ("finetuned", True),
        "Kinetics-400 directly": ("finetuned", False),
    }
    for name, (stage, after_k710) in stages.items():
        recipes = {size: paper(size, 8, after_k710=after_k710) for size in sizes}
        cells[name] = [_estimate(recipe.stages[stage], size) for size, recipe in recipes.items()]
    views = 19_796 * paper("g", 8).evaluation.loader.temporal_views * 3
    flops = [2 * views * forward_macs(classifier(paper(size, 8).finetuned, size)) for size in sizes]
    cells["evaluation, 19,796 × 15 views"] = [
        seconds_text(count / (8 * PEAK_TFLOPS[GPU] * 1e12 * MFU)) for count in flops
    ]
    return [f"| {' | '.join([name, *texts])} |" for name, texts in cells.items()]


def _estimate(settings: Any, size: str) -> str:
    return seconds_text(training_cost(settings, model_configs(settings, size), None, 8, here=False).seconds)


def test_expected_times_are_those_that_the_command_prints() -> None:
    assert [line for line in _estimates() if line not in DOC] == []


@pytest.mark.parametrize("title", TABLES)
def test_tables_are_those_of_the_code(title: str) -> None:
    assert "\n".join([*HEADER, *TABLES[title]]) in DOC


def test_notes_of_the_rows_are_told() -> None:
    """Where paper and script differ is in the document, in the words that the command prints."""
    rows = [
        *published.PRETRAINING.values(), *published.POST_PRETRAINING.values(), *published.DIRECT.values(),
        *published.AFTER_K710.values(),
    ]  # fmt: skip
    flat = " ".join(DOC.split())
    missing = [note for row in rows for note in row.notes if "no source" not in note and note not in flat]
    assert missing == []


def test_excerpts_of_configurations_are_toml_and_the_examples_are_whole() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOC, flags=re.DOTALL)
    assert len(blocks) >= 2
    known = {"preset", "size", "start", "pretrain", "post_pretrain", "finetune", "students", "student_weights",
             "teacher", "features", "features_every", "numbers"}  # fmt: skip
    for block in blocks:
        assert set(tomllib.loads(block)["training"]) <= known
    example = load(ROOT / "examples" / "finetune_kinetics400.toml", check_files=False)
    assert example.training.start is not None and example.training.pretrain is None
    assert tomllib.loads(blocks[-1])["training"]["finetune"] == example.training.finetune


def _commands() -> list[list[str]]:
    """Each line of the shell blocks, without comments and variables before it."""
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", DOC, flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if words]


def test_commands_are_there_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    commands = _commands()
    seen = set()
    for words in commands:
        words = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
        if words[:2] == [".venv/bin/python", "-m"]:
            module, arguments = words[2], words[3:]
            seen.add(" ".join([module, *arguments[:1]]))
            assert _parses(module, arguments), words
    assert {"model convert", "model predict", "pipelines recipe", "pipelines plan", "pipelines summary"} <= seen
    assert ["sbatch", "examples/finetune.sbatch"] in commands


def _parses(module: str, arguments: list[str]) -> bool:
    """Whether a command takes these arguments: its parser alone, nothing is run."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    commands = parser.add_subparsers(dest="command", required=True)
    if module == "model":
        for command in (convert, predict):
            command.add(commands)
        return parser.parse_args(arguments).command == arguments[0]
    if module == "pipelines":
        with pytest.raises(SystemExit) as help_only:
            main([*arguments, "--help"])
        return help_only.value.code == 0
    return False


def test_batch_script_is_bash_and_runs_the_example() -> None:
    script = ROOT / "examples" / "finetune.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert "examples/finetune_kinetics400.toml" in text and "dagster job execute -m pipelines -j full_run" in text
    assert re.search(r"^#SBATCH --signal=TERM@(\d+)$", text, flags=re.MULTILINE)


# What stands in for the programs of Slurm: the step runs here, its options and what is queued again are noted.
SLURM = {
    "srun": 'echo "$1" > step; shift; "$@"',
    "squeue": 'echo "$STATE"',
    "scontrol": 'echo "$@" > requeued',
    ".venv/bin/dagster": 'eval "$RUN"',
}
TOLD = "kill -TERM $PPID; exit 1"  # TERM to the step's first process as well, and the run saves and ends


@pytest.mark.parametrize(
    ("run", "state", "status", "requeued"),
    [
        pytest.param("exit 0", "RUNNING", 0, False, id="finished"),
        pytest.param("exit 1", "RUNNING", 1, False, id="failed"),
        pytest.param(TOLD, "RUNNING", 75, True, id="time nearly up, or preempted with grace"),
        pytest.param(f"kill -TERM $BATCH; {TOLD}", "RUNNING", 75, True, id="and the batch shell told too"),
        pytest.param(f"kill -TERM $BATCH; {TOLD}", "COMPLETING", 75, False, id="cancelled, or queued again by Slurm"),
        pytest.param("kill -TERM $PPID; exit 0", "RUNNING", 0, False, id="finished just when told"),
    ],
)
def test_batch_script_queues_again_only_what_was_asked_to_stop(
    tmp_path: Path, run: str, state: str, status: int, requeued: bool
) -> None:
    for name, body in SLURM.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    # As Slurm does it, in one process: $BATCH is its id.
    command = ["bash", "-c", 'export BATCH=$$; exec bash "$0"', str(ROOT / "examples" / "finetune.sbatch")]
    slurm = {"SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "96", "STATE": state, "RUN": run}
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def submit() -> subprocess.CompletedProcess:
        # Dagster gives TERM the handler of INT, which a shell ignores for what it runs in the background: and no shell
        # can trap what was ignored when it was started.
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        )  # fmt: skip

    assert "make setup" in (refused := submit()).stderr and refused.returncode == 1
    (tmp_path / ".dagster").mkdir()
    (tmp_path / ".dagster" / "dagster.yaml").touch()
    assert submit().returncode == status
    assert (tmp_path / "step").read_text() == "--cpus-per-task=96\n"
    asked = tmp_path / "requeued"
    assert (asked.read_text() if asked.exists() else "") == ("requeue 17\n" if requeued else "")
