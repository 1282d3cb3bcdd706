"""What all steps share: a network on its device, Adam, an update in parts, and a state that holds everything."""

from abc import ABC, abstractmethod
from contextlib import contextmanager

import torch

from ldct_utils.ct import intensity

PRECISIONS = ("float32", "bf16")


class Adam(torch.optim.Adam):
    """Adam, whose fused step takes kernels in channels_last as rows: it copies gradients that are not contiguous, which
    costs as much as the update itself."""

    def _init_group(self, group, params, *listed):
        found = super()._init_group(group, params, *listed)
        turned = [p.dim() == 4 and p.is_contiguous(memory_format=torch.channels_last) for p in params]
        for tensors in (params, *listed):
            for index, tensor in enumerate(tensors):
                if turned[index] and tensor.dim() == 4:
                    tensors[index] = tensor.permute(0, 2, 3, 1)
        return found


class Step(ABC):
    """A network and its optimiser; a method's step adds its terms, its critics and its ``update``.

    Args:
        network: maps LDCT (N, 1, H, W), network range, to a prediction of NDCT of the same shape.
        lr: learning rate of Adam, > 0; ``betas``: its two decay rates.
        eps: of Adam. Well below the gradients, so that a loss times a constant gives the same updates: with the usual
            1e-8 the gradients of an MSE of 1e-5 are damped, those of the same loss with a VGG term are not, and
            comparing losses would compare learning rates.
        precision: float32, or bf16: autocast for the convolutions, while weights, loss and optimiser stay float32.
        device: cpu, cuda, ...
        accumulate: parts into which a batch is cut; the gradients of the parts add up to that of the batch, in
            1/accumulate of the memory.
        groups: parameter groups of Adam in place of the network's parameters; an entry ``factor`` of a group multiplies
            the learning rate.
    Attributes:
        weights: {term: weight in the network's total}; may be changed between updates. A term that trains a critic has
            weight 0.
        falling: terms that a training which goes well lowers. One that grows a thousandfold has diverged; a critic's
            terms change sign and rise whenever the network or the critic gets better.
        phases: functions of (LDCT, NDCT) whose graphs an update keeps one after another: what it needs memory for.
    Raises: ValueError: for an unknown precision, a bad ``lr`` or ``accumulate``; RuntimeError: for an absent device.
    """

    def __init__(self, network, lr, betas, eps, precision, device, accumulate, groups=None):
        if precision not in PRECISIONS:
            raise ValueError(f"no precision {precision!r}; there are {', '.join(PRECISIONS)} (and auto in 03_train)")
        if not lr > 0:
            raise ValueError(f"the learning rate must be positive, got {lr!r}")
        if accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {accumulate!r}")
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(f"device {device!r} needs a CUDA GPU, and torch sees none; use device 'cpu' or 'auto'")
        self.precision, self.accumulate = precision, int(accumulate)
        self._adam = {"betas": tuple(betas), "eps": eps, "fused": True}
        self.modules, self.optimisers = {}, {}
        self.network = self.own("network", network, "optimiser", lr, groups)
        self.optimiser = self.optimisers["optimiser"]
        self.weights, self.phases = {}, (self.terms,)

    def own(self, name, module, optimiser, lr, groups=None):
        """Put a module on the device, give it an Adam, and make both part of the state."""
        # channels_last is what oneDNN and cuDNN compute in; 1.15 to 1.25 times as fast here as the default layout
        self.modules[name] = module.to(self.device, memory_format=torch.channels_last)
        groups = [{"params": list(module.parameters())}] if groups is None else groups
        groups = [{"factor": 1.0} | group | {"lr": lr * group.get("factor", 1.0)} for group in groups]
        self.optimisers[optimiser] = Adam(groups, lr, **self._adam)
        return module

    @property
    def lr(self) -> float:
        """Learning rate of the next update; may be set between updates. A group's ``factor`` stays its ratio to it."""
        return self.optimiser.param_groups[0]["lr"] / self.optimiser.param_groups[0]["factor"]

    @lr.setter
    def lr(self, value: float):
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = value * group["factor"]

    @property
    def falling(self) -> set:
        return set(self.weights)

    def parameters(self):
        """All weights that the step holds: of the network, its critics, and a frozen encoder."""
        for module in self.modules.values():
            yield from module.parameters()

    def autocast(self):
        """What the network is run in: this step's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @contextmanager
    def evaluating(self):
        """Inside, batch norms use their running statistics and neither they nor spectral norms are updated."""
        before = {module: module.training for module in self.modules.values()}
        try:
            for module in before:
                module.eval()
            yield
        finally:
            for module, training in before.items():
                module.train(training)

    def moved(self, image):
        """A batch on the step's device. To a GPU it goes through pinned memory, so that the copy is not waited for."""
        if self.device.type == "cuda" and image.device.type == "cpu":
            image = image.pin_memory()
        return image.to(self.device, non_blocking=True)

    @abstractmethod
    def terms(self, ldct, ndct):
        """Unweighted terms of the network's loss an image, {term: (N,)}, with gradients."""

    def descend(self, optimiser, terms_of, weights, *images):
        """One update from a batch of images, in parts.

        Args:
            optimiser: the one that follows the gradient of the mean over the batch of the weighted terms.
            terms_of: function of a part of every image batch that gives {term: (N,)}.
            weights: {term: weight}; a term without one is only reported.
            images: batches (N, 1, H, W) on any device.
        Returns: {term: (N,)}, unweighted, before the update, detached and still on the device.
        """
        parts = []
        optimiser.zero_grad(set_to_none=True)
        for part in zip(*(image.chunk(self.accumulate) for image in images)):
            terms = terms_of(*map(self.moved, part))
            total = sum(weights[name] * term.sum() for name, term in terms.items() if name in weights)
            (total / len(images[0])).backward()
            parts.append({name: term.detach() for name, term in terms.items()})
        optimiser.step()
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def state_dict(self) -> dict:
        """Weights, optimisers and loss weights: all that an update depends on besides torch's random state."""
        stateful = self.modules | self.optimisers
        return {name: part.state_dict() for name, part in stateful.items()} | {"weights": dict(self.weights)}

    def load_state_dict(self, state: dict):
        for name, part in (self.modules | self.optimisers).items():
            part.load_state_dict(state[name])
        self.weights.update(state["weights"])


class Adversarial(Step):
    """A step with critics: the network's predictions are judged in the units that the method was tuned in.

    Args: mean_hu, std_hu: units in which critics and terms see images, (HU - mean) / SD; both None: network range.
    """

    def __init__(self, network, mean_hu, std_hu, *adam):
        super().__init__(network, *adam)
        self.mean_hu, self.std_hu = mean_hu, std_hu

    def units(self, image):
        """An image of the network range in the method's units."""
        return image if self.std_hu is None else (intensity.from_net(image) - self.mean_hu) / self.std_hu

    def predict(self, ldct):
        """The network's prediction, float32 in the method's units, from LDCT in the network range."""
        with self.autocast():
            predicted = self.network(ldct)
        return self.units(predicted.float())

    def fakes(self, ldct):
        """Predictions for the critics to learn from, without gradients; a batch in parts."""
        with torch.no_grad():
            return torch.cat([self.predict(self.moved(part)) for part in ldct.chunk(self.accumulate)])


@contextmanager
def frozen(*modules):
    """Inside, the weights of the modules get no gradient, which saves computing it: the critics', for the network."""
    for module in modules:
        module.requires_grad_(False)
    try:
        yield
    finally:
        for module in modules:
            module.requires_grad_(True)


def check_share(name, value, top=float("inf")):
    """Raises: ValueError: if a setting is not a number in [0, top]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= top:
        raise ValueError(f"{name} is a number from 0 to {top:g}, not {value!r}")


def check_count(name, value, least):
    """Raises: ValueError: if a setting is not a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is a whole number of at least {least}, not {value!r}")
