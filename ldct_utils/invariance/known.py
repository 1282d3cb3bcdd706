"""A control for VAE and flow whose answer is known: patches of plane waves, of which a mean filter removes half.

A patch is 0 HU + sum_k a_k w_k, with waves w_k of RMS 1 and amplitudes a that are jointly normal. f, a linear control
that passes on gain g_k of wave k, shows y = G a of them, so that what f leaves open is known, by the formula for
conditional normal distributions:

    a | f(x) ~ N(K a, S - K S),   K = S G (G S G)^+ G,   S = cov(a), G = diag(g).

The mean filter passes half of the waves; each of the others has correlation ``RHO`` with one of these. Draws must hold
the first as they are in x, follow them in the mean of the second, vary there by sqrt(1 - RHO^2) of their SD, and have
nothing else. For the identity they must not vary; for a constant they must vary like the data.

``noise_hu`` adds white noise in *all* that the mean filter removes, some 400 directions at once, as CT noise has them:
many more than a small z has numbers.
"""

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ldct_utils.ct import intensity
from ldct_utils.invariance import controls, flow, images, vae
from ldct_utils.training import setup

SIDE, SD_HU, RHO = 32, 40.0, 0.6
FILTER = 8  # pixels a side of the mean filter
PASSED, REMOVED = 1, 4  # periods along a patch: gains .90 and 0
CONTROLS = {  # name: (denoiser, noise, HU)
    "mean filter": ("blur", 0.0), "identity": ("identity", 0.0), "constant": ("constant", 0.0),
    "mean filter, noise": ("blur", 20.0),
}  # fmt: skip
VAE = {"dim": 16, "chunk": 2, "code": 8, "classes": 8, "hidden": 32, "channels": 8, "encoder_channels": 16}
FLOW = {"blocks": 4, "width": 64, "depth": 2, "condition": 16, "embed": 4}


def f_of(name):
    """A control by name (``controls.names``); the blur is the mean over ``FILTER`` pixels."""
    return controls.build(name, **({"size": FILTER} if name == "blur" else {}))


def waves():
    """The waves (4, SIDE, SIDE), RMS 1, orthogonal: two that the mean filter passes (rows, columns), two it removes."""
    phase = 2 * np.pi * np.arange(SIDE) / SIDE
    lines = [np.tile(np.sqrt(2) * np.cos(k * phase), (SIDE, 1)) for k in (PASSED, REMOVED)]
    return np.stack([one for line in lines for one in (line.T, line)])


def covariance():
    """Of the amplitudes, (4, 4), HU^2."""
    return SD_HU**2 * np.kron([[1, RHO], [RHO, 1]], np.eye(2))


def patches(count, seed, noise_hu=0.0):
    """Patches (count, 1, SIDE, SIDE), network range, and their amplitudes (count, 4), HU.

    Args: noise_hu: RMS of white noise in all that the mean filter removes, besides the waves.
    """
    rng = np.random.default_rng(seed)
    a = rng.multivariate_normal(np.zeros(4), covariance(), count)
    images = np.tensordot(a, waves(), 1)
    if noise_hu:
        removed = f_of("blur").null_space((SIDE, SIDE)).numpy()
        white = np.fft.fft2(rng.normal(0, noise_hu, images.shape)) * removed / np.sqrt(removed.mean())
        noise = np.fft.ifft2(white).real
        images += noise - np.tensordot(amplitudes(noise), waves(), 1)
    return intensity.to_net(torch.from_numpy(images[:, None].astype(np.float32))), a


def amplitudes(images):
    """Amplitudes (..., 4) of the waves in images (..., SIDE, SIDE), HU."""
    return np.tensordot(images, waves(), ((-2, -1), (-2, -1))) / SIDE**2


def conditional(f):
    """Of a given f(x): the matrix K (4, 4), whose product with a is the mean, and the covariance (4, 4), HU^2.

    Args: f: a linear (affine) control, from images (N, 1, SIDE, SIDE), network range.
    """
    one = torch.from_numpy(np.stack([0 * waves()[0], *(SD_HU * waves())])[:, None].astype(np.float32))
    seen = intensity.from_net(f(intensity.to_net(one)).numpy()[:, 0]).astype(np.float64)
    gain = np.round(amplitudes(seen[1:] - seen[0]) / SD_HU, 5)  # of every wave (rows) in every wave: diagonal
    shown = gain.T @ covariance() @ gain
    k = covariance() @ gain @ np.linalg.pinv(shown, rcond=1e-6) @ gain.T
    return k, covariance() - k @ covariance()


def train(f, updates=(300, 500), batch=16, lr=3e-3, noise_hu=0.0, seed=0, progress=False):
    """Train a small VAE and its flow for a control.

    Args: f: as for ``conditional``. updates: of the VAE and of the flow, which sees four batches in each. lr: peak.
    Returns: the ``CVAE`` and the ``Flow``, in evaluation mode.
    """
    torch.manual_seed(seed)
    coder = vae.build("small", SIDE, **VAE)
    drawer = flow.build(**{"dim": coder.dim, "patch": SIDE} | FLOW)
    # The KL of the publication is for 200,000 updates; it ends short ones with a z that says nothing.
    encode = vae.TrainVAE(f, coder, weights={"kl": 1e-6}, lr=lr, betas=(0.9, 0.999))
    for stage, (name, count, size) in enumerate(zip(("VAE", "flow"), updates, (batch, 4 * batch))):
        step = encode if stage == 0 else flow.TrainFlow(f, coder, drawer, lr=lr)
        for update in tqdm(range(count), desc=name, unit="update", disable=not progress):
            step.lr = setup.learning_rate("cosine", lr, update, count, count // 20)
            step.update(patches(size, [seed, stage, update], noise_hu)[0])
    return coder.eval(), drawer.eval()


def compare(f, coder, drawer, count=200, samples=16, noise_hu=0.0, seed=1):
    """What the trained models draw beside what is known.

    Args: count: patches, new ones. samples: draws of each.
    Returns: a row a quantity: quantity, found, known; in HU but for the slope.
    """
    x, a = patches(count, [seed, 2], noise_hu)
    x_hu = intensity.from_net(x.numpy()[:, 0])
    tilde = flow.sample(f, coder, drawer, x, samples, seed)
    tilde_hu = intensity.from_net(tilde.numpy()).astype(np.float64)
    with torch.inference_mode():
        after, before = (
            intensity.from_net(f(images.reshape(-1, 1, SIDE, SIDE)).numpy()[:, 0]).reshape(count, -1, SIDE, SIDE)
            for images in (tilde, x)
        )
    k, open_ = conditional(f)
    drawn = amplitudes(tilde_hu)
    rest = tilde_hu - np.tensordot(drawn, waves(), 1)
    mean, sd = drawn.mean(1), np.sqrt(drawn.var(1, ddof=1).mean(0))

    def rms(values):
        return float(np.sqrt(np.mean(np.square(values))))

    def slope(means):
        return float((means[:, 2:] * a[:, :2]).sum() / np.square(a[:, :2]).sum())

    noise_left = noise_hu if not np.allclose(k, np.eye(4)) else 0.0  # the identity leaves none open
    rows = {
        "SD over draws, waves that pass": (rms(sd[:2]), rms(np.sqrt(np.diag(open_)[:2].clip(0)))),
        "SD over draws, waves that are removed": (rms(sd[2:]), rms(np.sqrt(np.diag(open_)[2:].clip(0)))),
        "slope of the removed ones' mean on the passed": (slope(mean), slope(a @ k.T)),
        "SD over draws, all else": (rms(rest.std(1, ddof=1)), noise_left),
        "draws from x": (rms(tilde_hu - x_hu[:, None]), _known_change(a, k, open_, noise_left)),
        "f(draws) from f(x)": (rms(after - before), 0.0),
    }
    return pd.DataFrame([{"quantity": name, "found": v, "known": w} for name, (v, w) in rows.items()])


def _known_change(a, k, open_, noise_hu):
    """RMS of x_tilde - x, HU: of a draw from its mean and of x from it, besides twice the noise that is open."""
    return float(np.sqrt(max(np.trace(open_), 0.0) + np.mean(np.square(a - a @ k.T).sum(1)) + 2 * noise_hu**2))


def controlled(updates, seed: int = 0):
    """What a small VAE and flow draw for all ``CONTROLS``, and what is known.

    Args: updates: of the VAE and of the flow.
    Returns: the rows of ``compare`` with their ``control``, and of each control x, f(x) and three draws, (controls, 5,
        SIDE, SIDE) float32 HU.
    """
    parts, drawn = [], []
    for title, (control, noise_hu) in tqdm(CONTROLS.items(), unit="control"):
        f = f_of(control)
        small = train(f, updates, noise_hu=noise_hu, seed=seed)
        parts.append(compare(f, *small, noise_hu=noise_hu).assign(control=title))
        x = patches(1, [seed, 3], noise_hu)[0]
        drawn.append(images.in_hu(torch.cat([x, f(x), flow.sample(f, *small, x, 3, seed)[0][:, None]])))
    return pd.concat(parts, ignore_index=True), np.stack(drawn).astype(np.float32)


def check(answers):
    """What a long training must have found. Args: answers: the rows of ``controlled``.

    Raises: AssertionError: where draws vary in what f shows, or do not in what it does not show.
    """
    varies = answers.set_index(["control", "quantity"]).found.unstack("control").loc["SD over draws, waves that pass"]
    assert varies["mean filter"] < 4 and varies["identity"] < 4, "draws vary in what f shows"
    assert varies["constant"] > 20, "draws for an f that shows nothing do not vary"
