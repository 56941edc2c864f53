"""Parts of code that cannot be traced: each is read once, and the notes name only what could not be read."""

from __future__ import annotations

from torch import Tensor, nn

import antialiased_zoo as az

READ: list[str] = []  # the parts whose forward was traced, in order


class Part(nn.Module):
    """Cannot be traced beyond its first line; holds another part, or a strided convolution in a list of lists."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        inner = Part(depth - 1) if depth else nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.depth, self.layers = depth, nn.ModuleList([nn.ModuleList([inner, nn.Dropout()])])
        self.norm, self.heads = nn.InstanceNorm2d(8), nn.ModuleDict({"one": nn.Linear(4, 4)})

    def forward(self, x: Tensor, scale: Tensor | None = None, twice: bool = False, more: bool = False) -> Tensor:
        READ.append(str(self.depth))
        x = self.norm(x if scale is None else x * scale)
        return self.layers[0][0](x) if x.sum() > -1e6 else x


class Chooses(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, a: bool = False, b: bool = False, c: Tensor | None = None) -> Tensor:
        x = x + 1 if a else x
        x = x - 1 if b else x
        return self.inner(x if c is None else x * c)


def test_a_part_is_read_once_however_often_what_is_around_it_is_read() -> None:
    READ.clear()
    plan = az.plan(Chooses(Chooses(Part(2))))
    assert [site.reason for site in plan.treated] == ["after the nonlinearity"]
    # The inner parts are traced without their optional argument, and then with it.
    assert (READ.count("0"), READ.count("1")) == (2, 2)


def test_notes_leave_out_what_has_no_code_to_read() -> None:
    plan = az.plan(Part(1))
    assert [note.split(" cannot")[0] for note in plan.notes] == ["Part", "layers: 0: 0: Part"]
    assert all("control flow" in note for note in plan.notes)


def test_a_container_with_a_forward_is_read() -> None:
    class Runs(nn.ModuleDict):
        def forward(self, x: Tensor) -> Tensor:
            return self["act"](self["conv"](x))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.runs = nn.Conv2d(3, 8, 1), Runs({"conv": nn.Conv2d(8, 8, 3, 2, 1), "act": nn.ReLU()})

        def forward(self, x: Tensor) -> Tensor:
            return self.runs(self.stem(x)) if x.sum() > -1e6 else x

    (site,) = az.plan(Net()).sites
    assert (str(site.placement), site.reason) == ("after runs.act", "after the nonlinearity")
