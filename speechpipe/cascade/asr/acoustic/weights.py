"""A network in a file: safetensors (https://github.com/huggingface/safetensors), its shape in the file's metadata.

Such a file holds numbers and nothing that could run, unlike a pickle.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from speechpipe.cascade.asr.acoustic import NetworkConfig
from speechpipe.cascade.asr.acoustic.network import CtcNetwork
from speechpipe.errors import BadInput

KEY = "speechpipe.ctc"


def save(network: CtcNetwork, path: Path) -> None:
    """Write a network; all or nothing.

    Raises:
        OSError: it cannot be written; what stood there is still there.
    """
    fresh = path.with_name(path.name + ".new")
    tensors = {name: value.detach().cpu().contiguous() for name, value in _trained(network).items()}
    try:
        save_file(tensors, fresh, {KEY: json.dumps(dataclasses.asdict(network.config))})
        fresh.replace(path)
    except SafetensorError as error:  # how the library says that the disk is full
        raise OSError(f"{path}: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)


def load(path: Path) -> CtcNetwork:
    """Read a network, on the CPU and ready to recognise.

    Raises:
        BadInput: the file is broken, or is not such a network.
        OSError: it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            described = (file.metadata() or {}).get(KEY)
            if described is None:
                raise BadInput(f"{path} holds no network of speechpipe's")
            network = CtcNetwork(NetworkConfig(**json.loads(described)))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        copy(tensors, network)
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise BadInput(f"{path} is broken: {error}", cause="weights_broken") from error
    return network.eval()


def copy(tensors: Mapping[str, torch.Tensor], network: CtcNetwork) -> None:
    """Set a network's weights; a ValueError if some are missing or of another shape."""
    wanted = _trained(network)
    if wanted.keys() != tensors.keys() or any(tensors[name].shape != value.shape for name, value in wanted.items()):
        raise ValueError("the weights are those of another network")
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ValueError("some weights are not finite")
    network.load_state_dict(dict(tensors), strict=False)


def _trained(network: CtcNetwork) -> dict[str, torch.Tensor]:
    # Windows and filters of the frontend follow from the shape.
    return {name: value for name, value in network.state_dict().items() if not name.startswith("frontend.")}
