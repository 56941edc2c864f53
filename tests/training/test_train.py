"""The training loop: against plain SGD, stopped anywhere, in several processes."""

import dataclasses
import hashlib
import math
import os
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from forked import free_port, of_two, run_two
from safetensors.torch import load_file
from tiny_training import PAIR, TINY, equal, make_images, small_net, trainer
from torch import nn
from without_float64 import WithoutFloat64

from antialiased_zoo.training import execution
from antialiased_zoo.training.batches import epoch_order
from antialiased_zoo.training.execution import Execution, processes
from antialiased_zoo.training.loop import top1
from antialiased_zoo.training.recipes import Recipe
from antialiased_zoo.training.runs import RunFolder, load_weights
from antialiased_zoo.weights import Preprocessing
from antialiased_zoo.weights.atomic_files import private_name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("data"))


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
@pytest.mark.slow
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


class OnThatDevice(nn.Module):
    """A network whose logits are on a device without float64."""

    def __init__(self):
        super().__init__()
        self.network = small_net()

    def forward(self, images):
        return self.network(images).as_subclass(WithoutFloat64)


def test_a_device_without_float64_sums_exactly(folder, tmp_path):
    how = Execution(accumulate=2, checkpoint_every=2)
    expected = trainer(folder, tmp_path / "cpu", execution=how)
    expected.fit()
    found = trainer(folder, tmp_path / "other", model=OnThatDevice(), execution=how)
    found.fit()
    assert [{**entry, "seconds": 0} for entry in found.log] == [{**e, "seconds": 0} for e in expected.log]
    assert found.log[0]["loss"] > 0


def test_divergence_is_an_error(folder, tmp_path):
    wild = Recipe(sizes=((12, 1),), augment="pad-crop", batch_size=8, lr=1e30)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        trainer(folder, tmp_path, wild).fit()


def test_a_diverged_run_keeps_its_last_good_checkpoint(folder, tmp_path):
    """It went on to the epoch's end, and a checkpoint of NaN replaced the good one."""
    found = trainer(folder, tmp_path, execution=Execution(checkpoint_every=1))
    steps = []

    def spoiled(images):
        steps.append(1)
        return images * (math.nan if len(steps) == 3 else 1)

    found.model.register_forward_pre_hook(lambda _, args: (spoiled(args[0]),))
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        found.fit()
    assert len(steps) == 3
    state = found.run.read_checkpoint()
    assert state["position"]["step"] == 2
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_each_process_touches_its_own_gpu_only(monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: done.append(f"set {number}"))
    monkeypatch.setattr(execution, "find_device", lambda name: done.append(f"allocate on {name}") or torch.device(name))
    monkeypatch.setattr(torch.distributed, "init_process_group", done.append)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    for name, value in of_two(1, 1).items():
        monkeypatch.setenv(name, value)
    for name in ("auto", "cuda", "cuda:0"):
        with processes(name) as place:
            assert place == (torch.device("cuda", 1), 1, 2)
        assert done == ["set 1", "allocate on cuda:1", "nccl"]
        done.clear()
    with processes("cpu") as place:
        assert place == (torch.device("cpu"), 1, 2)
    assert done == ["allocate on cpu", "gloo"]


def test_a_network_that_keeps_a_tensor_is_trained_and_measured_in_turn(folder, tmp_path):
    class Keeping(nn.Sequential):
        kept = None

        def forward(self, x):
            x = super().forward(x)
            if self.kept is None:
                self.kept = torch.ones(2)
            return x * self.kept

    found = trainer(folder, tmp_path, model=Keeping(*small_net()))
    top1(found.model, found.val, found.how)  # its first pass is one of evaluation
    found.fit()
    assert [entry["epoch"] for entry in found.log] == [1, 2]


def test_a_checkpoint_of_other_settings_is_refused(folder, tmp_path):
    trainer(folder, tmp_path).fit()
    with pytest.raises(ValueError, match="seed: 0 there, 1 now"):
        trainer(folder, tmp_path, seed=1)


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    run = RunFolder(tmp_path)
    run.save_checkpoint({"identity": {}, "step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # Python ignores its signal
    try:
        with pytest.raises(OSError, match=r"cannot write .*checkpoint\.pt: the disk is full"):
            run.save_checkpoint({"identity": {}, "step": 2, "model": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run.read_checkpoint()["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_an_error_of_the_gpu_is_not_taken_for_a_full_disk(tmp_path):
    class Lost:
        def __reduce__(self):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="CUDA error: an illegal"):
        RunFolder(tmp_path).save_checkpoint({"model": Lost()})


def test_a_recipe_of_numpys_numbers_can_be_resumed(folder, tmp_path):
    numbers = {"lr": np.float64(0.05), "batch_size": np.int64(8), "ema": np.float32(0.5)}
    for _ in range(2):
        trainer(folder, tmp_path, dataclasses.replace(TINY, **numbers), seed=np.int64(1)).fit()


def test_a_network_with_more_outputs_in_training_is_refused(folder, tmp_path):
    class Auxiliary(nn.Sequential):
        def forward(self, x):
            logits = super().forward(x)
            return (logits, logits) if self.training else logits

    with pytest.raises(ValueError, match=r"in training the network returns an object of type tuple.*aux_logits=False"):
        trainer(folder, tmp_path, TINY, Auxiliary(*small_net())).fit()


def test_a_changed_recipe_is_named_by_what_changed(folder, tmp_path):
    trainer(folder, tmp_path).fit()
    other = dataclasses.replace(TINY, lr=0.7)
    with pytest.raises(ValueError, match=rf"of another run \(recipe\.lr: {TINY.lr} there, 0\.7 now\)"):
        trainer(folder, tmp_path, other)


def test_a_setting_of_its_own_in_the_identity_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"own settings: rename recipe, seed$"):
        trainer(folder, tmp_path, identity={"seed": 1, "recipe": "mine", "model": "small"})


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    run = RunFolder(tmp_path)
    run.save_checkpoint({"identity": {}, "step": 1})
    with pytest.raises(Exception, match="pickle"):
        run.save_checkpoint({"identity": {}, "step": 2, "wrong": lambda: None})
    assert run.load_checkpoint({})["step"] == 1


def test_weights_are_half_precision_and_named_by_digest(tmp_path):
    tensors = {"weight": torch.randn(3, 4).T, "count": torch.tensor(7), "large": torch.tensor([1e6])}
    path = RunFolder(tmp_path).save_weights(tensors, "net_test", Preprocessing())
    assert path.name == f"net_test-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.safetensors"
    assert load_file(path)["weight"].dtype is torch.float16
    loaded = load_weights(path)
    assert loaded["weight"].dtype is torch.float32
    assert torch.equal(loaded["weight"], tensors["weight"].half().float())
    assert loaded["count"] == 7
    assert loaded["large"] == 1e6


def _one_of_two(rank, folder, out, port):
    os.environ.update(of_two(rank, port))
    torch.set_num_threads(1)
    with processes("cpu") as (device, number, world):
        how = Execution(device, rank=number, world=world, accumulate=2, checkpoint_every=3)
        work = trainer(folder, out, PAIR, execution=how)
        torch.save((work.fit().state_dict(), work.log), out / f"{number}.pt")
        recipe = dataclasses.replace(PAIR, ema=0.5)
        normed = trainer(folder, out / "normed", recipe, small_net(norm=True), execution=how)
        torch.save(normed.fit().state_dict(), out / f"{number} normed.pt")


def test_two_processes_equal_one_and_measure_one_network(folder, tmp_path):
    alone = trainer(folder, tmp_path / "alone", PAIR)
    expected = alone.fit().state_dict()
    run_two(_one_of_two, folder, tmp_path, free_port())
    for rank in range(2):
        weights, log = torch.load(tmp_path / f"{rank}.pt")
        for name, tensor in weights.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
        assert [entry["val_top1"] for entry in log] == [entry["val_top1"] for entry in alone.log]
        assert [entry["loss"] for entry in log] == pytest.approx([e["loss"] for e in alone.log], abs=2e-4)
    assert equal(*(torch.load(tmp_path / f"{rank} normed.pt") for rank in range(2)))


def test_what_killed_runs_left_of_a_checkpoint_goes_with_the_next(tmp_path):
    run, own = RunFolder(tmp_path), private_name()
    dead = own.replace(f"-{os.getpid()}-", "-999999999-")
    for name in (dead, own):  # of a process that is still writing, too
        (tmp_path / f"checkpoint.pt{name}.tmp").touch()
    run.save_checkpoint({"identity": {}})
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", f"checkpoint.pt{own}.tmp"}
