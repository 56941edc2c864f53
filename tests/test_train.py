"""Training: batches by position, schedules, resumption after SIGKILL, processes, the record."""

import dataclasses
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torchvision.transforms import v2

from antialiased_zoo.batches import FileBatches, MemoryBatches, epoch_order, resize, shift_and_flip
from antialiased_zoo.data import open_images
from antialiased_zoo.entry import parse_entry
from antialiased_zoo.execution import Execution
from antialiased_zoo.preprocessing import Preprocessing
from antialiased_zoo.recipes import PRESETS, Recipe
from antialiased_zoo.runs import RunFolder, load_weights
from antialiased_zoo.training import Trainer, top1

ROOT = Path(__file__).parents[1]
SMALL = Preprocessing(resize=12, crop=12)
CPU = torch.device("cpu")
TINY = Recipe(sizes=((8, 1), (12, 1)), augment="pad-crop", batch_size=8, lr=0.05, schedule="cosine")


def make_images(root, train=20, val=7):
    noise = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        for name, colour in (("blue", (60, 60, 160)), ("red", (160, 60, 60))):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(noise.normal(colour, 40, (12, 12, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("data"))


def small_net(norm=False):
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(4)] if norm else []
    return nn.Sequential(nn.Conv2d(3, 4, 3), *norms, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2))


def trainer(folder, run, recipe=TINY, model=None, **options):
    kind = MemoryBatches if recipe.augment == "pad-crop" else FileBatches
    train = kind(open_images(folder / "train"), SMALL, CPU)
    val = FileBatches(open_images(folder / "val"), SMALL, CPU)
    return Trainer(model or small_net(), recipe, train, val, RunFolder(run), **options)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---- batches


def test_processes_share_an_epoch_without_overlap():
    shares = [epoch_order(23, 6, seed=5, rank=rank, world=3) for rank in range(3)]
    assert [share.shape for share in shares] == [(3, 2)] * 3
    assert len(set(torch.cat(shares).flatten().tolist())) == 18
    whole = epoch_order(23, 6, seed=5)
    assert torch.equal(torch.cat(shares, dim=1), whole)
    assert not torch.equal(whole, epoch_order(23, 6, seed=6))
    with pytest.raises(ValueError, match="fewer than one batch"):
        epoch_order(5, 6, seed=0)
    with pytest.raises(ValueError, match="3 processes"):
        epoch_order(50, 8, seed=0, world=3)


def test_shift_and_flip_is_reflect_padding_crop_and_flip():
    images = torch.rand(5, 3, 9, 7)
    shift = torch.tensor([[0, 0], [2, -2], [-3, 1], [1, 3], [-1, -3]])
    flip = torch.tensor([False, True, False, True, True])
    moved = shift_and_flip(images, shift, flip)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    for image, (down, right), mirrored, result in zip(images, shift.tolist(), flip, moved, strict=True):
        padded = F.pad(image[None], (3, 3, 3, 3), mode="reflect")[0]
        expected = padded[:, 3 - down : 12 - down, 3 - right : 10 - right]
        assert torch.equal(result, expected.flip(-1) if mirrored else expected)


@pytest.mark.parametrize("size", [20, 12, 7])
def test_resize_is_torchvisions(size):
    images = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8)
    expected = v2.functional.resize(images.float(), [size, size], antialias=True)
    torch.testing.assert_close(resize(images, size), expected, rtol=1e-5, atol=1e-3)


def test_memory_batches_resume_anywhere_and_move_by_at_most_an_eighth(folder):
    images = open_images(folder / "train")
    batches = MemoryBatches(images, SMALL, CPU)
    order = epoch_order(len(images), 8, seed=1)
    whole = list(batches.epoch(order, 16, seed=3))
    for (pixels, targets), (again, same) in zip(whole[2:], batches.epoch(order[2:], 16, seed=3), strict=True):
        assert torch.equal(pixels, again)
        assert torch.equal(targets, same)
    assert not torch.equal(whole[0][0], next(batches.epoch(order, 16, seed=4))[0])
    still = v2.functional.normalize(resize(batches.pixels[order[0]], 16) / 255, list(SMALL.mean), list(SMALL.std))
    shifts = [(d, r, f) for d in range(-2, 3) for r in range(-2, 3) for f in (False, True)]
    for one, moved in zip(still, whole[0][0], strict=True):
        variants = (shift_and_flip(one[None], torch.tensor([[d, r]]), torch.tensor([f]))[0] for d, r, f in shifts)
        assert any(torch.allclose(moved, variant, atol=1e-5) for variant in variants)


def test_file_batches_do_not_depend_on_workers_or_batches(folder):
    images = open_images(folder / "train")
    rows = torch.tensor([[3, 17], [30, 2]])
    alone = list(FileBatches(images, SMALL, CPU).epoch(rows, 10, seed=1))
    for (pixels, targets), (others, labels) in zip(
        alone, FileBatches(images, SMALL, CPU, workers=2).epoch(rows, 10, seed=1), strict=True
    ):
        assert pixels.shape == (2, 3, 10, 10)
        assert torch.equal(pixels, others)
        assert torch.equal(targets, labels)
    regrouped = next(FileBatches(images, SMALL, CPU).epoch(rows.flip(0, 1).reshape(1, 4), 10, seed=1))
    assert torch.equal(regrouped[0][1], alone[1][0][0])
    assert not torch.equal(next(FileBatches(images, SMALL, CPU).epoch(rows, 10, seed=2))[0], alone[0][0])


def test_validation_images_are_shared_out_once(folder):
    batches = FileBatches(open_images(folder / "val"), SMALL, CPU)
    shares = [list(batches.whole(4, rank, 3)) for rank in range(3)]
    assert sum(len(targets) for share in shares for _, targets in share) == len(batches) == 14
    together = torch.cat([pixels for pixels, _ in batches.whole(250)])
    assert torch.equal(torch.cat([pixels for pixels, _ in shares[1]]), together[1::3])
    assert torch.equal(together[0], SMALL.build()(batches.images.image(0)))


def test_pad_crop_refuses_images_of_different_sizes(tmp_path):
    (tmp_path / "a").mkdir()
    for name, size in (("1.png", (8, 8)), ("2.png", (9, 8))):
        Image.new("RGB", size).save(tmp_path / "a" / name)
    with pytest.raises(ValueError, match=r"a/2.png is 9x8.*resized-crop"):
        MemoryBatches(open_images(tmp_path), SMALL, CPU)


# ---- recipes


def by_torch(schedule, steps, **options):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = schedule(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_schedules_are_torchs():
    schedulers = torch.optim.lr_scheduler
    base = Recipe(sizes=((8, 90),), lr=0.3)
    cosine = Recipe(sizes=((8, 90),), lr=0.3, schedule="cosine")
    cycle = Recipe(sizes=((8, 90),), lr=0.3, schedule="one-cycle", warmup=0.25)
    done = [step / 90 for step in range(90)]
    assert np.allclose([base.lr_at(d) for d in done], by_torch(schedulers.StepLR, 90, step_size=30))
    assert np.allclose([cosine.lr_at(d) for d in done], by_torch(schedulers.CosineAnnealingLR, 90, T_max=90))
    # OneCycleLR puts its peak at step 0.25 * n - 1 and its end at n - 1: with n = 401, every 400 steps of ours.
    expected = by_torch(schedulers.OneCycleLR, 401, max_lr=0.3, total_steps=401, pct_start=101 / 401)
    assert np.allclose([cycle.lr_at(step / 400) for step in range(401)], expected, atol=1e-5)


def test_linear_warm_up_and_sizes():
    recipe = Recipe(sizes=((8, 2), (12, 1)), lr=0.3, schedule="cosine", warmup=0.5)
    assert [recipe.lr_at(done) for done in (0, 0.25, 0.5)] == pytest.approx([0, 0.15, 0.3])
    assert recipe.lr_at(1) == pytest.approx(0)
    assert [recipe.size_at(epoch) for epoch in range(recipe.epochs)] == [8, 8, 12]
    with pytest.raises(ValueError, match="3 epochs"):
        recipe.size_at(3)


@pytest.mark.parametrize(
    "wrong", [{"sizes": ()}, {"sizes": ((0, 1),)}, {"schedule": "poly"}, {"augment": "x"}, {"ema": 1.0}]
)
def test_recipes_refuse_what_cannot_be_trained(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(**{"sizes": ((8, 1),), **wrong})


def test_published_presets():
    resnet, fine = PRESETS["imagenet-resnet"], PRESETS["imagenet-finetune"]
    assert (resnet.lr, resnet.batch_size, resnet.epochs, resnet.weight_decay) == (0.1, 256, 90, 1e-4)
    assert (fine.lr, fine.epochs) == (pytest.approx(resnet.lr / 10), resnet.epochs * 2 // 3)
    mobilenet = PRESETS["imagenet-mobilenet"]
    assert (mobilenet.lr, mobilenet.epochs, mobilenet.weight_decay) == (0.05, 150, 4e-5)


# ---- the loop


def test_training_learns(folder, tmp_path):
    long = Recipe(sizes=((12, 12),), augment="pad-crop", batch_size=8, lr=0.1, schedule="one-cycle", warmup=0.2)
    entries = []
    work = trainer(folder, tmp_path, long, small_net(norm=True), report=entries.append)
    result = work.fit()
    assert not result.training
    assert entries == work.log
    assert len(entries) == 12
    assert entries[-1]["loss"] < 0.5 * entries[0]["loss"]
    assert entries[-1]["val_top1"] == top1(result, work.val, work.how) == 100


def test_first_steps_equal_plain_sgd(folder, tmp_path):
    recipe = Recipe(
        sizes=((12, 1),), augment="pad-crop", batch_size=8, lr=0.05, schedule="cosine", nesterov=True,
        weight_decay=0.01, decay_norms=False, label_smoothing=0.1,
    )  # fmt: skip
    work = trainer(folder, tmp_path, recipe, seed=3)
    ours = work.fit().state_dict()
    model = small_net()
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": 0.01}, {"params": biases, "weight_decay": 0}]
    optimizer = torch.optim.SGD(groups, lr=1, momentum=0.9, nesterov=True)
    order = epoch_order(40, 8, seed=3 * 10_007)
    for step, (images, targets) in enumerate(work.train.epoch(order, 12, seed=3 * 10_007)):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 + np.cos(np.pi * step / 5)) / 2
        optimizer.zero_grad()
        F.cross_entropy(model(images), targets, label_smoothing=0.1).backward()
        optimizer.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-6)


def test_accumulation_and_memory_format_change_rounding_only(folder, tmp_path):
    whole = trainer(folder, tmp_path / "1").fit().state_dict()
    parts = Execution(accumulate=3, channels_last=False)
    for name, tensor in trainer(folder, tmp_path / "2", execution=parts).fit().state_dict().items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-4, atol=1e-6)


def test_averaged_weights_are_the_result(folder, tmp_path):
    recipe = Recipe(sizes=((12, 1),), augment="pad-crop", batch_size=20, lr=0.1, ema=0.75)
    work = trainer(folder, tmp_path, recipe)
    seen = []
    work.optimizer.register_step_post_hook(
        lambda *_: seen.append({name: t.clone() for name, t in work.model.state_dict().items()})
    )
    result = work.fit().state_dict()
    first, second = seen
    for name, tensor in result.items():
        # The average starts at the first step's weights.
        torch.testing.assert_close(tensor, 0.75 * first[name] + 0.25 * second[name])


def test_bfloat16_autocast(folder, tmp_path):
    work = trainer(folder, tmp_path, execution=Execution(amp=torch.bfloat16))
    exact = trainer(folder, tmp_path / "exact").fit().state_dict()
    amp = work.fit().state_dict()
    assert all(tensor.dtype is torch.float32 for tensor in amp.values())
    assert not equal(amp, exact)
    for name, tensor in amp.items():
        torch.testing.assert_close(tensor, exact[name], rtol=0.1, atol=0.01)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled(folder, tmp_path):
    eager = trainer(folder, tmp_path / "eager", PAIR).fit().state_dict()
    compiled = trainer(folder, tmp_path, PAIR, execution=Execution(compile=True)).fit().state_dict()
    assert compiled.keys() == eager.keys()
    for name, tensor in compiled.items():
        torch.testing.assert_close(tensor, eager[name], rtol=1e-4, atol=1e-6)


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("steps", [1, 4, 5, 7])
def test_a_run_stopped_after_any_step_ends_the_same(folder, tmp_path, steps):
    recipe = Recipe(sizes=((8, 1), (12, 1)), augment="pad-crop", batch_size=8, lr=0.05, ema=0.9)
    net = nn.Sequential(nn.Dropout(0.2), small_net(norm=True))
    start = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    how = Execution(checkpoint_every=2)
    alone = trainer(folder, tmp_path / "alone", recipe, net, execution=how)
    expected = alone.fit().state_dict()

    def stop(*_):
        raise KilledError

    net.load_state_dict(start)
    killed = trainer(folder, tmp_path / "killed", recipe, net, execution=how)
    taken = []
    killed.optimizer.register_step_post_hook(lambda *_: taken.append(1) or (len(taken) == steps and stop()))
    with pytest.raises(KilledError):
        killed.fit()
    fresh = nn.Sequential(nn.Dropout(0.2), small_net(norm=True))
    resumed = trainer(folder, tmp_path / "killed", recipe, fresh, execution=how)
    assert (resumed.epoch, resumed.step) == {1: (0, 0), 4: (0, 2), 5: (0, 4), 7: (1, 0)}[steps]
    assert equal(resumed.fit().state_dict(), expected)
    assert [{**entry, "seconds": 0} for entry in resumed.log] == [{**e, "seconds": 0} for e in alone.log]


def test_divergence_is_an_error(folder, tmp_path):
    wild = Recipe(sizes=((12, 1),), augment="pad-crop", batch_size=8, lr=1e30)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        trainer(folder, tmp_path, wild).fit()


def test_a_checkpoint_of_other_settings_is_refused(folder, tmp_path):
    trainer(folder, tmp_path).fit()
    with pytest.raises(ValueError, match="seed: 0 there, 1 now"):
        trainer(folder, tmp_path, seed=1)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    run = RunFolder(tmp_path)
    run.save_checkpoint({"identity": {}, "step": 1})
    with pytest.raises(Exception, match="pickle"):
        run.save_checkpoint({"identity": {}, "step": 2, "wrong": lambda: None})
    assert run.load_checkpoint({})["step"] == 1


def test_weights_are_half_precision_and_named_by_digest(tmp_path):
    tensors = {"weight": torch.randn(3, 4).T, "count": torch.tensor(7), "large": torch.tensor([1e6])}
    path = RunFolder(tmp_path).save_weights(tensors, "net_test")
    assert path.name == f"net_test-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.safetensors"
    assert load_file(path)["weight"].dtype is torch.float16
    loaded = load_weights(path)
    assert loaded["weight"].dtype is torch.float32
    assert torch.equal(loaded["weight"], tensors["weight"].half().float())
    assert loaded["count"] == 7
    assert loaded["large"] == 1e6


# ---- several processes


def _one_of_two(rank, folder, out, port):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    from antialiased_zoo.execution import processes

    torch.set_num_threads(1)
    with processes("cpu") as (device, number, world):
        how = Execution(device, rank=number, world=world, accumulate=2, checkpoint_every=3)
        work = trainer(folder, out, PAIR, execution=how)
        torch.save((work.fit().state_dict(), work.log), out / f"{number}.pt")


PAIR = Recipe(sizes=((12, 2),), augment="resized-crop", batch_size=8, lr=0.05, schedule="cosine")


def test_two_processes_equal_one(folder, tmp_path):
    alone = trainer(folder, tmp_path / "alone", PAIR)
    expected = alone.fit().state_dict()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    torch.multiprocessing.spawn(_one_of_two, (folder, tmp_path, port), nprocs=2)
    for rank in range(2):
        weights, log = torch.load(tmp_path / f"{rank}.pt")
        for name, tensor in weights.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
        assert [entry["val_top1"] for entry in log] == [entry["val_top1"] for entry in alone.log]
        assert [entry["loss"] for entry in log] == pytest.approx([e["loss"] for e in alone.log], abs=2e-4)


# ---- the script


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_script", ROOT / "scripts" / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(script, *options):
    return script.parse(["resnet18", "--data", "data.zip", "--out", "runs/x", *options])


def test_options_change_the_preset(script):
    plain = parsed(script, "--filter-size", "3", "--preset", "imagenet-resnet")
    assert script.recipe_of(plain) == PRESETS["imagenet-resnet"]
    assert plain.filter_size == 3
    options = ["--sizes", "128x3,224x2", "--lr", "0.3", "--nesterov", "--no-decay-norms", "--schedule", "cosine"]
    changed = parsed(script, "--filter-size", "none", "--preset", "imagenet-resnet", *options)
    assert changed.filter_size is None
    assert script.recipe_of(changed) == dataclasses.replace(
        PRESETS["imagenet-resnet"], sizes=((128, 3), (224, 2)), lr=0.3, nesterov=True, decay_norms=False,
        schedule="cosine",
    )  # fmt: skip
    computing = ["--amp", "bfloat16", "--accumulate", "4", "--no-channels-last"]
    args = parsed(script, "--filter-size", "2", "--preset", "cifar10", *computing)
    how = script.execution_of(args, CPU, 1, 2)
    assert (how.amp, how.accumulate, how.rank, how.world) == (torch.bfloat16, 4, 1, 2)
    assert how.memory_format is torch.contiguous_format


def test_fine_tuning_starts_from_given_weights(script, tmp_path):
    from antialiased_zoo import create_model

    torch.manual_seed(5)
    trained = create_model("mobilenet_v2", filter_size=None, num_classes=4, width_mult=0.1).state_dict()
    path = RunFolder(tmp_path).save_weights(trained, "net_test")
    options = ["--filter-size", "4", "--preset", "imagenet-mobilenet-finetune", "--init", str(path)]
    args = script.parse(["mobilenet_v2", "--data", "d", "--out", "o", *options, "--model-args", "width_mult=0.1"])
    loaded = script.build(args, 4).state_dict()
    assert loaded.keys() == trained.keys()
    for name, tensor in trained.items():
        torch.testing.assert_close(loaded[name].float(), tensor.float(), rtol=1e-3, atol=1e-6)
    assert all(tensor.dtype is not torch.float16 for tensor in loaded.values())


def test_the_recorded_command_repeats_the_run(script, tmp_path, monkeypatch):
    argv = ["mobilenet_v2", "--data", "my data.zip"]
    assert script.command(argv) == "python scripts/train.py mobilenet_v2 --data 'my data.zip'"
    (tmp_path / "first.json").write_text('{"entry": {"command": "python scripts/train.py first"}}')
    second = script.command(["second"], str(tmp_path / "first.safetensors"))
    assert second == "python scripts/train.py first && python scripts/train.py second"
    assert script.command(["second"], "torchvision") == "python scripts/train.py second"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert script.command(argv).startswith("torchrun --nproc-per-node 8 scripts/train.py mobilenet_v2")


def command(data, out, *options):
    script = [sys.executable, str(ROOT / "scripts" / "train.py"), "mobilenet_v2", "--preset", "cifar10"]
    small = ["--sizes", "12x2,16x1", "--eval-resize", "16", "--eval-crop", "16", "--batch-size", "4", "--lr", "0.005"]
    tiny = ["--filter-size", "4", "--model-args", "width_mult=0.1", "--threads", "1", "--workers", "0"]
    return [*script, *small, *tiny, "--data", str(data), "--out", str(out), "--checkpoint-every", "3", *options]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def run(*arguments):
    return subprocess.run(command(*arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def position(out):
    path = out / "checkpoint.pt"
    return torch.load(path)["position"] if path.exists() else {"epoch": 0, "step": 0}


def kill_in_mid_epoch(arguments, out):
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while not (position(out)["epoch"] >= 1 and position(out)["step"] > 0):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_sigkill_and_resume_gives_the_same_weights(tmp_path):
    data = make_images(tmp_path / "data", train=40)
    kill_in_mid_epoch(command(data, tmp_path / "killed"), tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("*.safetensors"))
    assert position(tmp_path / "killed")["epoch"] < 3
    for out in ("killed", "alone"):
        done = run(data, tmp_path / out)
        assert done.returncode == 0, done.stderr
    (killed,), (alone,) = (list((tmp_path / out).glob("*.safetensors")) for out in ("killed", "alone"))
    assert killed.name == alone.name
    assert killed.read_bytes() == alone.read_bytes()
    assert all(tensor.isfinite().all() for tensor in load_weights(alone).values())
    check_record(data, alone)


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
    from antialiased_zoo import create_model

    model = create_model("mobilenet_v2", filter_size=4, num_classes=2, width_mult=0.1)
    model.load_state_dict(load_weights(weights))
    model.eval()
    images = open_images(data / "val", transform=parse_preprocessing(record).build())
    right = sum(int(model(pixels[None]).argmax()) == target for pixels, target in images)
    assert record["entry"]["metrics"]["acc1"] == round(100 * right / len(images), 2)
    assert record["val_images"] == len(images) == 14


def parse_preprocessing(record):
    return Preprocessing(resize=record["entry"]["preprocessing"]["resize"], crop=16)


def test_classes_must_agree(tmp_path):
    data = make_images(tmp_path / "data", train=4, val=1)
    (data / "val" / "red").rename(data / "val" / "green")
    done = run(data, tmp_path / "out")
    assert done.returncode != 0
    assert "same classes; only one has green, red" in done.stderr
