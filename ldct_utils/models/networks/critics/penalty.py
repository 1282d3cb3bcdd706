"""The gradient penalty of Wasserstein critics."""

import torch


def gradient_penalty(critic, real, fake):
    """(||gradient of the critic|| - 1)^2 an image, (N,), at a point drawn between each real image and its fake.

    Differentiable with respect to the critic. Draws N numbers from torch's global generator on the CPU.
    Source: Gulrajani et al. 2017, arXiv 1704.00028, Eq. 3; without the factor lambda.
    """
    share = torch.rand(len(real), 1, 1, 1).to(real, non_blocking=True)
    with torch.enable_grad():
        between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square()
