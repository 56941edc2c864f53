"""scripts/train.py as a user runs it: options, SIGKILL and resume, the record."""

import dataclasses
import errno
import hashlib
import json
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import torch
import train
from forked import of_script, run_code
from tiny_training import CPU, make_images

import antialiased_zoo as az
from antialiased_zoo.evaluation import CorruptImageError, open_images
from antialiased_zoo.training.recipes import PRESETS
from antialiased_zoo.training.runs import RunFolder, load_weights
from antialiased_zoo.weights.entry import parse_entry
from antialiased_zoo.weights.preprocessing import Preprocessing

ROOT = Path(__file__).parents[2]


def parsed(*options):
    return train.parse(["resnet18", "--data", "data.zip", "--out", "runs/x", *options])


def test_options_change_the_preset():
    plain = parsed("--filter-size", "3", "--preset", "imagenet-resnet")
    assert train.recipe_of(plain) == PRESETS["imagenet-resnet"]
    assert plain.filter_size == 3
    options = ["--sizes", "128x3,224x2", "--lr", "0.3", "--nesterov", "--no-decay-norms", "--schedule", "cosine"]
    changed = parsed("--filter-size", "none", "--preset", "imagenet-resnet", *options)
    assert changed.filter_size is None
    assert train.recipe_of(changed) == dataclasses.replace(
        PRESETS["imagenet-resnet"], sizes=((128, 3), (224, 2)), lr=0.3, nesterov=True, decay_norms=False,
        schedule="cosine",
    )  # fmt: skip
    computing = ["--amp", "bfloat16", "--accumulate", "4", "--no-channels-last"]
    args = parsed("--filter-size", "2", "--preset", "cifar10", *computing)
    how = train.execution_of(args, CPU, 1, 2)
    assert (how.amp, how.accumulate, how.rank, how.world) == (torch.bfloat16, 4, 1, 2)
    assert how.memory_format is torch.contiguous_format


def test_fine_tuning_starts_from_given_weights(tmp_path):
    from antialiased_zoo import create_model

    torch.manual_seed(5)
    trained = create_model("mobilenet_v2", filter_size=None, num_classes=4, width_mult=0.1).state_dict()
    path = RunFolder(tmp_path).save_weights(trained, "net_test", Preprocessing())
    options = ["--filter-size", "4", "--preset", "imagenet-mobilenet-finetune", "--init", str(path)]
    args = train.parse(["mobilenet_v2", "--data", "d", "--out", "o", *options, "--model-args", "width_mult=0.1"])
    named = train.build(args, 4)
    assert "saved from mobilenet_v2(filter_size=None), but the network is mobilenet_v2(filter_size=4)" in named.remark
    loaded = named.model.state_dict()
    assert loaded.keys() == trained.keys()
    for name, tensor in trained.items():
        torch.testing.assert_close(loaded[name].float(), tensor.float(), rtol=1e-3, atol=1e-6)
    assert all(tensor.dtype is not torch.float16 for tensor in loaded.values())
    assert train.build(args, 7).model.classifier[1].out_features == 7  # a new head for other data


def test_the_recorded_command_repeats_the_run(tmp_path, monkeypatch):
    argv = ["mobilenet_v2", "--data", "my data.zip"]
    assert train.command(argv) == "python scripts/train.py mobilenet_v2 --data 'my data.zip'"
    (tmp_path / "first.json").write_text('{"entry": {"command": "python scripts/train.py first"}}')
    second = train.command(["second"], str(tmp_path / "first.safetensors"))
    assert second == "python scripts/train.py first && python scripts/train.py second"
    assert train.command(["second"], "torchvision") == "python scripts/train.py second"
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert train.command(argv).startswith("torchrun --nproc-per-node 8 scripts/train.py mobilenet_v2")
    monkeypatch.setenv("WORLD_SIZE", "16")
    assert train.command(argv).startswith("torchrun --nnodes 2 --nproc-per-node 8 scripts/train.py mobilenet_v2")


def command(data, out, *options):
    network = ["mobilenet_v2", "--preset", "cifar10"]
    small = ["--sizes", "12x2,16x1", "--eval-resize", "16", "--eval-crop", "16", "--batch-size", "4", "--lr", "0.005"]
    tiny = ["--filter-size", "4", "--model-args", "width_mult=0.1", "--threads", "1", "--workers", "0"]
    return [*network, *small, *tiny, "--data", str(data), "--out", str(out), "--checkpoint-every", "3", *options]


# SIGKILL where the second checkpoint of the second epoch would begin: three steps are lost. A parent that waits for the
# first may find the training at its end.
KILLED = """
import os, signal
from antialiased_zoo.training.runs import RunFolder
save = RunFolder.save_checkpoint
def save_or_die(run, state):
    if (state["position"]["epoch"], state["position"]["step"]) == (1, 6):
        os.kill(os.getpid(), signal.SIGKILL)
    save(run, state)
RunFolder.save_checkpoint = save_or_die
"""


def kill_in_mid_epoch(arguments, out):
    done = run_code(KILLED + of_script(ROOT / "scripts" / "train.py", *arguments), out.parent)
    assert done.returncode == -signal.SIGKILL, done.stderr
    position = torch.load(out / "checkpoint.pt")["position"]
    assert (position["epoch"], position["step"]) == (1, 3)


def run_here(monkeypatch, *arguments):
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    try:
        train.main(command(*arguments))
    finally:
        torch.set_flush_denormal(False)


def test_sigkill_and_resume_gives_the_same_weights(tmp_path, monkeypatch):
    data = make_images(tmp_path / "data", train=16)
    kill_in_mid_epoch(command(data, tmp_path / "killed"), tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("*.safetensors"))
    run_here(monkeypatch, data, tmp_path / "killed")
    run_here(monkeypatch, data, tmp_path / "alone", "--tensorboard")
    (killed,), (alone,) = (list((tmp_path / out).glob("*.safetensors")) for out in ("killed", "alone"))
    assert killed.name == alone.name
    assert killed.read_bytes() == alone.read_bytes()
    assert all(tensor.isfinite().all() for tensor in load_weights(alone).values())
    check_record(data, alone)
    check_events(alone)


def check_events(weights):
    """TensorBoard's files hold the record's log."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = json.loads(weights.with_suffix(".json").read_text())["log"]
    events = EventAccumulator(str(weights.parent))
    events.Reload()
    written = [(event.step, event.value) for event in events.Scalars("loss")]
    assert written == [(entry["epoch"], pytest.approx(entry["loss"], rel=1e-6)) for entry in log]


def check_record(data, weights):
    record = json.loads(weights.with_suffix(".json").read_text())
    entry = parse_entry(record["entry"], {"licenses": {"MIT": {"url": "https://x.org", "commercial_use": True}}})
    assert entry.key == ("mobilenet_v2", 4, "cifar10")
    assert entry.files[0].sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert entry.files[0].size == weights.stat().st_size
    assert entry.classes == ("blue", "red")
    assert (entry.preprocessing.resize, entry.preprocessing.crop) == (16, 16)
    assert entry.command.startswith("python scripts/train.py mobilenet_v2 --preset cifar10 --sizes 12x2,16x1")
    assert record["data"] == {part: open_images(data / part).digest() for part in ("train", "val")}
    assert record["versions"]["torch"] == torch.__version__
    assert [line["epoch"] for line in record["log"]] == [1, 2, 3]
    check_accuracy(data, weights, record)


def check_accuracy(data, weights, record):
    from antialiased_zoo import create_model, from_pretrained

    config = from_pretrained(weights).config  # the file says itself which network it is
    assert (config.model, config.filter_size, config.classes) == ("mobilenet_v2", 4, ("blue", "red"))
    assert (config.preprocessing.crop, config.license, config.dataset) == (16, "MIT", data.stem)

    model = create_model("mobilenet_v2", filter_size=4, num_classes=2, width_mult=0.1)
    model.load_state_dict(load_weights(weights))
    model.eval()
    images = open_images(data / "val", transform=parse_preprocessing(record).build())
    right = sum(int(model(pixels[None]).argmax()) == target for pixels, target in images)
    assert record["entry"]["metrics"]["acc1"] == round(100 * right / len(images), 2)
    assert record["val_images"] == len(images) == 14


def parse_preprocessing(record):
    return Preprocessing(resize=record["entry"]["preprocessing"]["resize"], crop=16)


def refused(monkeypatch, *arguments):
    """What the script says in one line, and before it trains."""
    monkeypatch.setattr(train.Trainer, "fit", None)
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as raised:
        run_here(monkeypatch, *arguments)
    return str(raised.value)


def test_a_run_does_not_go_on_with_other_images_of_the_same_names(tmp_path, monkeypatch):
    data = make_images(tmp_path / "data", train=4, val=2)
    one = ["--sizes", "12x1", "--batch-size", "8"]
    run_here(monkeypatch, data, tmp_path / "out", *one)
    (record,) = (tmp_path / "out").glob("*.json")
    content = record.read_text()
    shutil.rmtree(data)
    make_images(data, train=4, val=2, seed=1)
    assert "is of another run (images.train: " in refused(monkeypatch, data, tmp_path / "out", *one)
    assert record.read_text() == content


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: b"", lambda content: b"text"])
def test_a_broken_checkpoint_is_named(tmp_path, monkeypatch, damage):
    data, run = make_images(tmp_path / "data", train=4, val=2), RunFolder(tmp_path / "out")
    run.save_checkpoint({"identity": {}, "model": {"weight": torch.ones(3)}})
    run.checkpoint.write_bytes(damage(run.checkpoint.read_bytes()))
    said = refused(monkeypatch, data, run.path, "--sizes", "12x1", "--batch-size", "8")
    assert f"{run.checkpoint} is not a whole checkpoint" in said
    assert "delete it to start the run again" in said


def test_sizes_that_a_network_cannot_take_are_refused(tmp_path, monkeypatch):
    data = make_images(tmp_path / "data", train=4, val=2)
    options = ["resnet18", "--preset", "cifar10", "--sizes", "1x2", "--batch-size", "8", "--filter-size", "4"]
    options += ["--data", str(data), "--out", str(tmp_path / "out"), "--device", "cpu", "--workers", "0"]
    monkeypatch.setattr(train.Trainer, "fit", None)
    with pytest.raises(ValueError, match="resnet18 does not map an image of 1 pixels to logits"):
        train.main(options)
    torch.set_flush_denormal(False)


def test_any_seed_trains(tmp_path, monkeypatch):
    data = make_images(tmp_path / "data", train=4, val=2)
    for augment, cutout in (("pad-crop", "0.3"), ("resized-crop", "0")):
        options = ["--sizes", "12x1", "--batch-size", "8", "--augment", augment, "--cutout", cutout]
        run_here(monkeypatch, data, tmp_path / augment, *options, "--seed", str(2**130 + 1))
        assert list((tmp_path / augment).glob("*.safetensors"))


@pytest.mark.parametrize(("augment", "workers"), [("resized-crop", "1"), ("resized-crop", "0"), ("pad-crop", "0")])
def test_images_that_cannot_be_decoded_are_named_and_left_out(tmp_path, monkeypatch, augment, workers):
    data = make_images(tmp_path / "data", train=8, val=4)
    (data / "train" / "red" / "1.png").write_bytes(b"no image")
    (data / "val" / "red" / "1.png").write_bytes(b"no image")
    options = ["--sizes", "12x2", "--batch-size", "8", "--augment", augment, "--cutout", "0", "--workers", workers]
    with pytest.warns(UserWarning, match="left out: cannot decode") as given:
        run_here(monkeypatch, data, tmp_path / "out", *options)
    named = [str(one.message).split(":")[1].split("/data/")[-1] for one in given if "left out" in str(one.message)]
    assert sorted(set(named)) == ["train/red/1.png", "val/red/1.png"]
    assert len(named) == 2  # once each
    (file,) = (tmp_path / "out").glob("*.json")
    record = json.loads(file.read_text())
    images = open_images(data / "val", transform=parse_preprocessing(record).build())
    model = az.from_pretrained(file.with_suffix(".safetensors")).eval()
    places = [place for place, name in enumerate(images.samples) if name != "red/1.png"]
    right = sum(int(model(images[place][0][None]).argmax()) == images.targets[place] for place in places)
    assert record["val_images"] == len(places) == len(images) - 1
    assert record["entry"]["metrics"]["acc1"] == round(100 * right / len(places), 2)


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize(("augment", "part"), [("resized-crop", "train"), ("pad-crop", "train"), ("pad-crop", "val")])
def test_data_of_which_nothing_can_be_decoded_is_an_error(tmp_path, monkeypatch, augment, part):
    data = make_images(tmp_path / "data", train=8, val=4)
    for image in (data / part).rglob("*.png"):
        image.write_bytes(b"no image")
    options = ["--sizes", "12x1", "--batch-size", "8", "--augment", augment, "--cutout", "0", "--workers", "0"]
    error, said = (CorruptImageError, "decode") if part == "train" else (ValueError, "no validation image")
    with pytest.raises(error, match=said):
        run_here(monkeypatch, data, tmp_path / "out", *options)


def no_space(dir):
    raise OSError(errno.EROFS, "Read-only file system", str(dir))


def test_results_need_a_folder_and_training_two_classes(tmp_path, monkeypatch):
    data = make_images(tmp_path / "data", train=8, val=4)
    (tmp_path / "file").touch()
    monkeypatch.setattr(train, "build", None)  # before the work
    for folder in ("file", "file/inside"):
        with pytest.raises(OSError, match="must be a folder, but it is a file or in one: choose another name"):
            run_here(monkeypatch, data, tmp_path / folder)
    monkeypatch.setattr(tempfile, "TemporaryFile", no_space)  # chmod does not stop root
    with pytest.raises(OSError, match=r"nothing can be written into this folder \(Read-only file system\)"):
        run_here(monkeypatch, data, tmp_path / "out")
    for part in ("train", "val"):
        shutil.rmtree(data / part / "red")
    with pytest.raises(ValueError, match="train has one class, blue; expected a folder for each of two or more"):
        run_here(monkeypatch, data, tmp_path / "out")


def test_classes_must_agree(tmp_path, monkeypatch):
    data = make_images(tmp_path / "data", train=4, val=1)
    (data / "val" / "red").rename(data / "val" / "green")
    with pytest.raises(ValueError, match="same classes; only one has green, red"):
        run_here(monkeypatch, data, tmp_path / "out")
