"""Trains a network of the zoo in Lightning, and loads Lightning's checkpoint into a plain network.

pip install lightning
python examples/lightning_module.py

Replace the random images with your own data module.
"""

import argparse
from pathlib import Path

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import antialiased_zoo as az


class Classifier(lightning.LightningModule):
    """Any network of the zoo, trained with cross-entropy."""

    def __init__(self, network: str = "resnet18", num_classes: int = 10, lr: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = az.create_model(network, filter_size=4, num_classes=num_classes)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of one batch."""
        images, classes = batch
        loss = nn.functional.cross_entropy(self.model(images), classes)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW on all parameters."""
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])


def main(arguments: list[str] | None = None) -> az.Backbone:
    """Train on random images, and return the network loaded from the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--folder", type=Path, default=Path("runs/lightning"))
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(options.images, 3, 64, 64), torch.arange(options.images) % 10)
    trainer = lightning.Trainer(max_epochs=1, accelerator="auto", default_root_dir=options.folder, logger=False)
    module = Classifier(options.network)
    trainer.fit(module, DataLoader(data, batch_size=8, shuffle=True))
    checkpoint = options.folder / "last.ckpt"
    trainer.save_checkpoint(checkpoint)

    # The file states its network's filter size and head; another filter size would be an error.
    network = az.create_model(options.network, pretrained=checkpoint).eval()
    print(network.config.describe(), f"with {network.num_classes} classes")
    images = data.tensors[0][:2]
    assert torch.allclose(network(images), module.model.eval()(images), atol=1e-5)
    return network


if __name__ == "__main__":
    main()
