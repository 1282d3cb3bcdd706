"""The supervised update: predict NDCT from LDCT, compare, follow the gradient with Adam."""

import torch

PRECISIONS = ("float32", "bf16")


class Supervised:
    """A network, its loss and its optimiser.

    Args:
        network: maps LDCT (N, 1, H, W), network range, to a prediction of NDCT of the same shape.
        loss: ``losses.Loss``; its ``weights`` may change between updates.
        lr: learning rate of Adam, > 0; ``betas``: its two decay rates.
        eps: of Adam. Well below the gradients, so that a loss times a constant gives the same updates: with the usual
            1e-8 the gradients of an MSE of 1e-5 are damped, those of the same loss with a VGG term are not, and
            comparing losses would compare learning rates.
        precision: float32, or bf16: autocast for the convolutions, while weights, loss and optimiser stay float32.
        device: cpu, cuda, ...
        accumulate: parts into which a batch is cut; the gradients of the parts add up to that of the batch, in
            1/accumulate of the memory.
    Raises: ValueError: for an unknown precision, a bad ``lr`` or ``accumulate``; RuntimeError: for an absent device.
    """

    def __init__(
        self, network, loss, lr=1e-4, betas=(0.9, 0.999), eps=1e-12, precision="float32", device="cpu", accumulate=1
    ):
        if precision not in PRECISIONS:
            raise ValueError(f"no precision {precision!r}; there are {', '.join(PRECISIONS)} (and auto in 03_train)")
        if not lr > 0:
            raise ValueError(f"the learning rate must be positive, got {lr!r}")
        if accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {accumulate!r}")
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(f"device {device!r} needs a CUDA GPU, and torch sees none; use device 'cpu' or 'auto'")
        # channels_last is what oneDNN and cuDNN compute in; 1.15 to 1.25 times as fast here as the default layout
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.loss = loss.to(self.device)
        self.precision, self.accumulate = precision, int(accumulate)
        self.optimiser = torch.optim.Adam(network.parameters(), lr, betas=tuple(betas), eps=eps, fused=True)

    @property
    def lr(self) -> float:
        """Learning rate of the next update; may be set between updates."""
        return self.optimiser.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value: float):
        for group in self.optimiser.param_groups:
            group["lr"] = value

    def terms(self, ldct, ndct):
        """Unweighted loss terms an image, {term: (N,)}, with gradients; the network in this step's precision."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.loss.terms(self.network(ldct), ndct)

    def update(self, ldct, ndct):
        """One update of the weights from a batch.

        Args: ldct, ndct: (N, 1, H, W) float32, network range, on any device.
        Returns: {term: (N,) float32}, unweighted, before the update, detached and still on the device.
        """
        parts = []
        self.optimiser.zero_grad(set_to_none=True)
        for part_ldct, part_ndct in zip(ldct.chunk(self.accumulate), ndct.chunk(self.accumulate)):
            terms = self.terms(part_ldct.to(self.device), part_ndct.to(self.device))
            total = sum(self.loss.weights[name] * term.sum() for name, term in terms.items())
            (total / len(ldct)).backward()
            parts.append({name: term.detach() for name, term in terms.items()})
        self.optimiser.step()
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def state_dict(self) -> dict:
        """Weights, optimiser and loss weights: all that an update depends on."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "weights": dict(self.loss.weights),
        }

    def load_state_dict(self, state: dict):
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.loss.weights.update(state["weights"])
