"""The first ten minutes on a GPU: what works there, how fast, and whether bf16 trains as float32 does.

Rows come in order of value and each is written when it is done, so that a machine which is taken away leaves what it
measured: the tests marked ``gpu`` (where pytest is), one update of every network and method beside the CPU's, a
training that goes on on another device, patches and slices a second beside the card's own bf16 rate, memory, bf16
against float32 on three seeds, and ``torch.compile`` last, of two networks. What no time is left for says so.

Carried in as wheels: torch and numpy, and what the modules used here import: scipy, pandas, filelock, safetensors,
h5py, scikit-image and tqdm (``CARRIED``, with their own dependencies); pytest and the study's requirements only for the
row of tests. Python 3.11 or newer, torch 2.11 or newer; nothing is downloaded. ``--device cpu`` rehearses it with tiny
sizes.

Run: python benchmarks/on_gpu.py [--minutes 8] [--device cuda] [--out FOLDER]
"""

import argparse
import functools
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ldct_utils.models import encoders, networks  # noqa: E402
from ldct_utils.training import checkpoints, losses, methods, prediction  # noqa: E402

CARRIED = ("torch", "numpy", "scipy", "pandas", "filelock", "safetensors", "h5py", "skimage", "tqdm")
COLUMNS = ("what", "case", "value", "unit", "beside", "memory_gb", "state")
HEADS = ("measured", "of what", "value", "unit", "beside it", "memory, GB", "state")
CLOSE = 0.01  # relative difference from the CPU up to which an update counts as the same
TINY = {
    "unet": {"channels": 4}, "cnn10": {"width": 4}, "redcnn": {"width": 4}, "dugan": {"width": 4}, "qae": {"width": 3},
    "wganvgg": {"width": 4}, "resnet": {"width": 8, "blocks": 1},
}  # fmt: skip
SMALL = {"transct": {"blocks": 1, "widening": 1}, "denomamba": {"dim": 8, "blocks": [1, 1, 1, 1]}}  # on any device
TINY_CRITICS = {"wgan": {"critic_width": 4, "critic_hidden": 8}, "dugan": {"critic_width": 4, "critic_depth": 3}}


class Bench:
    """Device, sizes, the time that is left, and the rows so far."""

    def __init__(self, device, minutes, folder):
        self.device, self.tiny, self.folder = torch.device(device), torch.device(device).type == "cpu", Path(folder)
        self.ends, self.rows, self.rate = time.monotonic() + 60 * minutes, [], None
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "on_gpu.jsonl").unlink(missing_ok=True)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def row(self, what, case, measure):
        """Measure and write a row; ``measure()`` gives {column: value}. An error is a row too."""
        row = dict.fromkeys(COLUMNS, "") | {"what": what, "case": case}
        if self.left <= 0:
            row["state"] = "no time left"
        else:
            try:
                if not self.tiny:
                    torch.cuda.reset_peak_memory_stats(self.device)
                row |= {"state": "done"} | measure()
                if not self.tiny:
                    row["memory_gb"] = torch.cuda.max_memory_allocated(self.device) / 1e9
            except Exception as error:  # the next row is worth more than this one's traceback
                row["state"] = (
                    f"failed: {type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
                )
        self.rows.append(row)
        with open(self.folder / "on_gpu.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        (self.folder / "on_gpu.md").write_text(self.table(), encoding="utf-8")
        print(" | ".join(shown(row[name]) for name in COLUMNS), flush=True)

    def table(self) -> str:
        lines = [" | ".join(HEADS), " | ".join("---" for _ in HEADS)]
        lines += [" | ".join(shown(row[name]).replace("|", "/") for name in COLUMNS) for row in self.rows]
        return "".join(f"| {line} |\n" for line in lines)

    def wait(self):
        if not self.tiny:
            torch.cuda.synchronize(self.device)

    def per_second(self, call, seconds):
        """Calls a second, after three that warm up; until ``seconds`` have passed or the time is over."""
        for _ in range(3):
            call()
        self.wait()
        began, calls = time.perf_counter(), 0
        while not calls or time.perf_counter() - began < min(seconds, self.left):
            for _ in range(1 if self.tiny else 5):
                call()
                calls += 1
            self.wait()
        return calls / (time.perf_counter() - began)


def shown(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def network_of(bench, name):
    torch.manual_seed(0)
    return networks.build(name, **((TINY if bench.tiny else {}) | SMALL).get(name, {}))


@functools.cache
def batch(count, size, seed=0):
    """Noisy and clean patches (N, 1, H, W), network range, on the CPU as a sampler gives them: discs at 0 HU in air."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    clean = np.stack([np.hypot(x - a, y - b) < c for a, b, c in rng.uniform(0.1, 0.4, (count, 3))]) * 0.25
    noisy = clean + rng.normal(0, 0.005, clean.shape)
    return tuple(torch.from_numpy(images[:, None].astype(np.float32)) for images in (noisy, clean))


def step_of(bench, network, method="supervised", loss="mse", precision="float32", device=None, size=64, **more):
    """A step of ``method``; the encoder, where one is read, has random weights: its speed does not depend on them."""
    reads = loss == "vgg" or method == "wgan"
    encoder = encoders.load("vgg19", "random", "block1_conv2" if bench.tiny else "block3_conv2") if reads else None
    torch.manual_seed(0)
    return methods.build(
        method, (TINY_CRITICS.get(method, {}) if bench.tiny else {}) | more, network=network, encoder=encoder,
        loss=losses.build(loss, encoder, lam=1e-5), patch_size=size, mean_hu=None, std_hu=None, lr=1e-4,
        betas=(0.9, 0.999), eps=1e-12, precision=precision, device=device or bench.device, accumulate=1,
    )  # fmt: skip


def exact_float32():
    """Inside, a GPU convolves float32 with all of its bits, not with TF32's: what is compared with the CPU."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


# ---- the rows, in order of value ----
def card(bench):
    """The rate of a large bf16 matrix product: what a network on this machine can come near to."""

    def measure():
        n = 256 if bench.tiny else 8192
        a, b = (torch.randn(n, n, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
        bench.rate = 2 * n**3 * bench.per_second(lambda: a @ b, 0.05 if bench.tiny else 2)
        name = "CPU" if bench.tiny else torch.cuda.get_device_name(bench.device)
        return {"value": bench.rate / 1e12, "unit": "TFLOP/s", "beside": f"{name}, torch {torch.__version__}"}

    bench.row("bf16 matrix product", "attainable rate", measure)


def tests(bench):
    def measure():
        if bench.tiny:
            return {"state": "left out: only on a GPU"}
        if importlib.util.find_spec("pytest") is None:
            return {"state": "left out: pytest is not here"}
        marked = [str(p) for p in sorted((ROOT / "tests").glob("test_*.py")) if "mark.gpu" in p.read_text("utf-8")]
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", *marked]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(bench.left / 3, 1))
        said = (found.stdout.strip().splitlines() or ["nothing said"])[-1]
        state = "done" if found.returncode == 0 else "failed: see beside it"
        return {"value": found.returncode, "unit": "exit status", "beside": said.strip("= "), "state": state}

    bench.row("tests marked gpu", "all files", measure)


def first_update(bench, network, method):
    """Terms of an update here and on the CPU, in float32: largest relative difference."""
    size, found = (512 if network == "transct" else 64 if method != "supervised" else 32), []
    for device in (bench.device, torch.device("cpu")):
        step = step_of(bench, network_of(bench, network), method, device=device, size=size)
        with exact_float32():
            terms = step.update(*batch(1 if network == "transct" else 2, size))
        wrong = [name for name, p in step.network.named_parameters() if p.device != step.device]
        if wrong or not all(bool(term.isfinite().all()) for term in terms.values()):
            raise RuntimeError(f"parameters elsewhere: {wrong}, or a term that is not finite")
        found.append({name: term.double().mean().item() for name, term in terms.items()})
    apart = max(abs(a - b) / max(abs(b), 1e-6) for a, b in zip(found[0].values(), found[1].values()))
    state = "done" if apart <= CLOSE else f"differs from the CPU by more than {CLOSE}"
    return {"value": apart, "unit": "of the term", "beside": "the CPU's update", "state": state}


def first_updates(bench):
    for name in networks.names():
        bench.row("first update", name, functools.partial(first_update, bench, name, "supervised"))
    for method in methods.METHODS[1:]:
        bench.row("first update", f"unet, {method}", functools.partial(first_update, bench, "unet", method))


def resume(bench, there, back):
    """Two updates on one device, two on the other, beside four on the CPU: relative difference of the last loss."""

    def train(devices):
        with tempfile.TemporaryDirectory() as folder:
            for number, device in enumerate(devices):
                step = step_of(bench, network_of(bench, "unet"), device=device)
                checkpoints.resume(folder, "bench", step=step)
                for update in range(2):
                    with exact_float32():
                        term = step.update(*batch(2, 64, 2 * number + update))["mse"]
                checkpoints.save(folder, "bench", 2 * number + 2, step=step)
        return term.double().mean().item()

    apart = abs(train((there, back)) / train(("cpu", "cpu")) - 1)
    state = "done" if apart <= CLOSE else f"differs from the CPU by more than {CLOSE}"
    return {"value": apart, "unit": "of the loss", "beside": "four updates on the CPU", "state": state}


def resumes(bench):
    for devices in ((bench.device, "cpu"), ("cpu", bench.device)):
        bench.row("resume on another device", " to ".join(map(str, devices)), lambda d=devices: resume(bench, *d))


def training_speed(bench, network, loss, precision, compiled=False):
    count, size = (2, 32) if bench.tiny else (16, 96)
    step = step_of(bench, network_of(bench, network), loss=loss, precision=precision, size=size)
    images = batch(count, size)
    with FlopCounterMode(display=False) as flops:
        step.update(*images)
    if compiled:  # a rehearsal traces it and its gradients; to have C++ made of them takes a minute
        step.network = torch.compile(step.network, backend="aot_eager" if bench.tiny else "inductor")
    updates = bench.per_second(lambda: step.update(*images), 0.05 if bench.tiny else 4)
    share = updates * flops.get_total_flops() / bench.rate if bench.rate else float("nan")
    return {"value": count * updates, "unit": "patches/s", "beside": f"{100 * share:.2g} % of the bf16 rate"}


def training_speeds(bench):
    for network in ("unet", "cnn10", "redcnn", "dugan"):
        for loss in ("mse", "vgg"):
            for precision in ("bf16", "float32"):
                case = f"{network}, {loss}, {precision}"
                bench.row("training", case, functools.partial(training_speed, bench, network, loss, precision))


def inference_speeds(bench):
    size, at_once = (64, 1) if bench.tiny else (512, 8)
    slices = np.zeros((2 * at_once, size, size), np.int16)

    def measure(name):
        network = network_of(bench, name).to(bench.device, memory_format=torch.channels_last)
        given = (slices, at_once, "bf16", str(bench.device))
        with FlopCounterMode(display=False) as flops:
            prediction.predict(network, *given)
        calls = bench.per_second(lambda: prediction.predict(network, *given), 0.05 if bench.tiny else 3)
        share = calls * flops.get_total_flops() / bench.rate if bench.rate else float("nan")
        return {"value": len(slices) * calls, "unit": "slices/s", "beside": f"{100 * share:.2g} % of the bf16 rate"}

    for name in ("unet", "cnn10", "redcnn", "dugan"):
        bench.row("inference", f"{name}, bf16, {size} pixels", functools.partial(measure, name))


def precisions(bench):
    """PSNR that bf16 and float32 reach from the same weights and patches: a difference for each of three seeds."""
    updates, found = (5 if bench.tiny else 200), {}

    def train(seed, precision):
        network = network_of(bench, "unet")
        torch.manual_seed(seed)
        for layer in network.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        step = step_of(bench, network, precision=precision)
        step.lr = 1e-3
        for update in range(updates):
            step.update(*batch(8, 64, 1000 * seed + update))
        with torch.no_grad(), step.evaluating():
            error = step.terms(*map(step.moved, batch(32, 64, 10**6)))["mse"].mean().item()
        return -10 * np.log10(error)

    def measure(seed):
        found[seed] = [train(seed, precision) for precision in ("bf16", "float32")]
        return {"value": found[seed][0] - found[seed][1], "unit": "dB", "beside": f"float32 {found[seed][1]:.2f} dB"}

    for seed in range(3):
        bench.row("bf16 less float32", f"unet, {updates} updates, seed {seed}", functools.partial(measure, seed))
        batch.cache_clear()

    def over_seeds():
        both = np.array(list(found.values()))
        if len(both) < 3:
            raise RuntimeError(f"{len(both)} of 3 seeds were trained")
        difference = both[:, 0] - both[:, 1]
        half = 4.303 * difference.std(ddof=1) / 3**0.5  # Student's t, 2 degrees of freedom, 95 %
        beside = f"95 % interval {difference.mean() - half:+.2f} to {difference.mean() + half:+.2f} dB; "
        beside += f"SD of float32 over seeds {both[:, 1].std(ddof=1):.2f} dB"
        return {"value": float(difference.mean()), "unit": "dB", "beside": beside}

    bench.row("bf16 less float32", "mean of three seeds", over_seeds)


def compiled(bench):
    for network in ("unet", "redcnn"):
        for on in (False, True):
            case = f"{network}, mse, bf16, {'on' if on else 'off'}"
            measure = functools.partial(training_speed, bench, network, "mse", "bf16", on)
            bench.row("torch.compile", case, measure)


PARTS = (card, tests, first_updates, resumes, training_speeds, inference_speeds, precisions, compiled)


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--minutes", type=float, default=8.0, help="no row begins after so many")
    asked.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal with tiny sizes")
    asked.add_argument("--out", default=str(ROOT / "outputs" / "on_gpu"), help="folder of on_gpu.md and on_gpu.jsonl")
    asked = asked.parse_args()
    if torch.device(asked.device).type == "cuda" and not torch.cuda.is_available():
        sys.exit(f"--device {asked.device} needs an NVIDIA GPU, and torch sees none; --device cpu rehearses the script")
    if torch.device(asked.device).type == "cpu":
        torch.set_num_threads(1)
    bench = Bench(asked.device, asked.minutes, asked.out)
    for part in PARTS:
        part(bench)
    print("\n" + bench.table())
    print(f"written to {bench.folder / 'on_gpu.md'}")
    failed = [f"{row['what']}, {row['case']}" for row in bench.rows if row["state"].startswith(("failed", "differs"))]
    if failed:
        sys.exit("not as it should be: " + "; ".join(failed))


if __name__ == "__main__":
    main()
