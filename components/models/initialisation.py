"""First random weights that keep a signal's size from layer to layer."""

from torch import nn


def keep_size(network: nn.Module) -> nn.Module:
    """Draw all convolutions anew (He et al., 2015), for networks whose own start would not do.

    Without batch normalisation PyTorch's own start shrinks the signal by 2.4 a layer (AlexNet).
    With it, a start that counts on normalised inputs (InceptionV3) overflows wherever the running
    statistics are used before they are right: in the first epochs' validation.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
