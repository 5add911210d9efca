import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mtl_lightning.__main__ import main
from mtl_lightning.data import packing
from tests.conftest import small
from tests.helpers import forks
from tests.helpers.data import labelled_photos


def pack(*arguments):
    return main(["pack", *arguments])


def test_packed_and_trained_on(cli, capsys):
    changes = labelled_photos({})
    changes["data.sources"]["digits"] = {"class_path": "DigitsSource", "init_args": {}}
    config = small(changes | {"tasks.digit": {"class_path": "Classification"}})
    capsys.readouterr()
    assert pack("--config", config, "--output", "new/p", "--shard_mb", "0.05") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        "written: new/p (1,821 images: train 1,276, val 182, test 363; tasks kind, size, digit; "
        f"{len(list(Path('new/p').glob('*.bin')))} shards, "
        f"{sum(p.stat().st_size for p in Path('new/p').glob('*.bin')) / 1e6:.1f} MB)\n"
    )
    changed = yaml.safe_load(Path(config).read_text())
    changed["data"]["sources"] = {
        "p": {"class_path": "StreamSource", "init_args": {"path": "new/p"}}
    }
    changed["data"]["batch_size"] = 32
    changed["trainer"]["limit_train_batches"] = 10
    Path("stream.yaml").write_text(yaml.safe_dump(changed))
    cli.run("fit", "--config", "stream.yaml")
    log = pd.read_csv("runs/stream/version_0/metrics.csv")
    assert {"train/kind/n_labelled", "val/digit/loss"} <= set(log)
    cli.run("test", "--config", "stream.yaml", "--ckpt_path", "best")
    results = json.loads(Path("runs/stream/version_0/test_metrics.json").read_text())
    assert results["tasks"]["kind"]["n_labelled"] == 3
    assert results["tasks"]["digit"]["n_labelled"] == 360


def test_only_some_tasks(capsys):
    assert pack("--config", small(), "--only", "digit", "--output", "p") == 0
    assert "(1,168 images: train 629, val 179, test 360; tasks digit; 1 shards" in (
        capsys.readouterr().out
    )
    table = pd.read_parquet("p/labels.parquet")
    assert list(table)[5:] == ["label:digit", "mask:digit"]


def test_what_is_left_out_is_reported(capsys):
    changes = labelled_photos({5: b"broken"})
    lines = Path("photos.csv").read_text().splitlines()
    lines[3] = "photos/02.png,,,train"
    Path("photos.csv").write_text("\n".join(lines))
    config = small(changes)
    message = "photos.csv row 7: image "
    capsys.readouterr()
    assert pack("--config", config, "--output", "p") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}")
    assert err.endswith("; data.on_bad_image: skip leaves such images out\n")
    assert err.count("\n") == 1
    assert not Path("p").exists()
    flags = ["--data.on_bad_image", "skip", "--data.max_bad_share", "0.1"]
    assert pack("--config", config, "--output", "p", *flags) == 0
    out, err = capsys.readouterr()
    assert out.startswith("written: p (22 images: ")
    first, second = err.splitlines()
    assert first == "left out: 1 images that carry no label"
    assert second.startswith(f"left out: {message}")
    assert "cannot be read (not an image" in second
    assert sorted(os.listdir()) == ["p", "photos", "photos.csv", "small.yaml"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "pack needs --output: the folder to write"),
        ("--output", "--output needs a value"),
        (
            "--output photos",
            "--output should be a folder that does not exist yet. Found photos, which is",
        ),
        (
            "--output p --shard_mb x",
            "--shard_mb should be a number of megabytes above 0 and up to 2048. F",
        ),
        ("--output p --shard_mb 0", "--shard_mb should be a number"),
        ("--output p --shard_mb 4000", "--shard_mb should be a number"),
        ("--output p --outptu q", '--outptu: no such option of pack; did you mean "--output"?'),
        ("--output p x", '"x": not expected here; options start with --'),
        ("--output p --only kin", '--only kin: no such task; did you mean "kind"?'),
        ("--output small.yaml/p", "small.yaml"),
    ],
)
def test_what_cannot_be(cli, flags, message):
    config = small(labelled_photos({}))
    assert cli.refused("pack", "--config", config, *flags.split()).startswith(message)
    assert sorted(os.listdir()) == ["photos", "photos.csv", "small.yaml"]


def test_a_label_that_no_class_knows_names_its_row(cli):
    config = small(labelled_photos({}) | {"tasks.kind.init_args": {"classes": ["cat", "dog"]}})
    message = cli.refused("pack", "--config", config, "--output", "p")
    assert message.startswith(
        'photos.csv row 4, column "kind": task kind cannot read the label "eel"'
    )


def pack_slowly(config: str) -> None:
    # A shell that starts the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = packing._read

    def slowly(*arguments):
        Path("begun").touch()
        time.sleep(3)
        return before(*arguments)

    packing._read = slowly
    sys.exit(pack("--config", config, "--output", "new/p"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_ended_by_a_signal_it_leaves_no_pack(number):
    process = forks.start(f"{__name__}.pack_slowly", small(labelled_photos({})))
    until = time.monotonic() + 60
    while not Path("begun").exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(1)  # Python writes to stderr if a signal comes just as a thread starts
    assert os.listdir("new")
    process.send_signal(number)
    status = process.wait(60)
    if number == signal.SIGKILL:
        (left,) = os.listdir("new")
        assert left.startswith(".p.")
        assert not Path("new", left, "pack.json").exists()
        return
    assert os.listdir("new") == []
    expected = {
        signal.SIGTERM: (143, "stopped; nothing was written\n"),
        signal.SIGINT: (130, "interrupted\n"),
    }[number]
    assert (status, process.written()) == expected


def test_help_imports_no_torch():
    code = (
        "import sys\nfrom mtl_lightning.__main__ import main\n"
        "assert main(['pack', '--help']) == 0\n"
        "print(sorted({'torch', 'pandas', 'numpy', 'rich', 'fsspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: mtl-lightning pack --config FILE")
    assert done.stdout.splitlines()[-1] == "[]"
