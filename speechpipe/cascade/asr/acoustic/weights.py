"""The file format of networks: safetensors (https://github.com/huggingface/safetensors) with the shape as metadata.

Unlike a pickle, such a file contains no executable code.
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
    """Write a network atomically.

    Raises:
        OSError: it cannot be written; an existing file is unchanged.
    """
    fresh = path.with_name(path.name + ".new")
    tensors = {name: value.detach().cpu().contiguous() for name, value in _trained(network).items()}
    try:
        save_file(tensors, fresh, {KEY: json.dumps(dataclasses.asdict(network.config))})
        fresh.replace(path)
    except SafetensorError as error:  # the library raises it if the disk is full
        raise OSError(f"{path}: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)


def load(path: Path) -> CtcNetwork:
    """Read a network, on the CPU and in evaluation mode.

    Raises:
        BadInput: the file is broken, or is not such a network.
        OSError: it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            described = (file.metadata() or {}).get(KEY)
            if described is None:
                raise BadInput(f"{path} does not contain a speechpipe network")
            network = CtcNetwork(NetworkConfig(**json.loads(described)))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        copy(tensors, network)
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise BadInput(f"{path} is broken: {error}", cause="weights_broken") from error
    return network.eval()


def copy(tensors: Mapping[str, torch.Tensor], network: CtcNetwork) -> None:
    """Set a network's weights; ValueError if some are missing, not finite or of another shape."""
    wanted = _trained(network)
    if wanted.keys() != tensors.keys() or any(tensors[name].shape != value.shape for name, value in wanted.items()):
        raise ValueError("the weights do not fit the network's shape")
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ValueError("some weights are not finite")
    network.load_state_dict(dict(tensors), strict=False)


def _trained(network: CtcNetwork) -> dict[str, torch.Tensor]:
    # The frontend's windows and filters are computed from the configuration.
    return {name: value for name, value in network.state_dict().items() if not name.startswith("frontend.")}
