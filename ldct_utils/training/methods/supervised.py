"""The supervised update: predict NDCT from LDCT, compare, follow the gradient with Adam."""

import torch

from ldct_utils.training.methods.base import Step


class Supervised(Step):
    """A network, its loss and its optimiser.

    Args:
        network, lr, betas, eps, precision, device, accumulate: see ``Step``.
        loss: ``losses.Loss``; its ``weights`` may change between updates. One that ``needs_labels`` gets them from
            ``update`` and ``terms``.
        lr_r: learning rate of the range widths of a network that names them (``groups()``, the trainable bilateral
            filter, Wagner et al. 2022: HU differences need another rate than pixels do); None: ``lr``.
    Raises: ValueError: see ``Step``; for an ``lr_r`` that is not positive or a network without such widths.
    """

    def __init__(
        self, network, loss, lr=1e-4, betas=(0.9, 0.999), eps=1e-12, precision="float32", device="cpu", accumulate=1,
        lr_r=None,
    ):  # fmt: skip
        groups = None
        if lr_r is not None:
            if not lr_r > 0:
                raise ValueError(f"lr_r, the learning rate of sigma_r, must be positive, got {lr_r!r}")
            if not hasattr(network, "groups"):
                raise ValueError(f"lr_r is for a network with range widths sigma_r; {type(network).__name__} has none")
            named = network.groups()
            groups = [{"params": named["rest"]}, {"params": named["sigma_r"], "factor": lr_r / lr}]
        super().__init__(network, lr, betas, eps, precision, device, accumulate, groups)
        self.loss = loss.to(self.device)
        self.weights = self.loss.weights  # one dict: whoever changes either changes both
        if self.loss.needs_labels:  # what an update keeps does not depend on where the structures are
            self.phases = (lambda ldct, ndct: self.terms(ldct, ndct, torch.ones_like(ndct, dtype=torch.int32)),)

    def parameters(self):
        yield from super().parameters()
        yield from self.loss.parameters()

    def terms(self, ldct, ndct, *labels):
        """Unweighted loss terms an image, {term: (N,)}, with gradients; the network in this step's precision."""
        with self.autocast():
            return self.loss.terms(self.network(ldct), ndct, *labels)

    def update(self, ldct, ndct, *labels):
        """One update of the weights from a batch.

        Args: ldct, ndct: (N, 1, H, W) float32, network range, on any device. labels: (N, 1, H, W) integers, structures
            of the NDCT, only for a loss that needs them.
        Returns: {term: (N,) float32}, unweighted, before the update, detached and still on the device.
        """
        return self.descend(self.optimiser, self.terms, self.weights, ldct, ndct, *labels)


STEP = Supervised
