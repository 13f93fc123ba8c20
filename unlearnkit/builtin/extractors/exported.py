"""Networks that torch.export.save wrote, computed from their graphs.

torch.export.load unpickles weights, constants and sample inputs, compiles guards and looks up any function of torch by
its name: it runs what the file says. Here the file is data: operators of a list, and tensors as bytes.
"""

import json
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from unlearnkit.contracts import Extractor
from unlearnkit.disk import sha256
from unlearnkit.errors import UserError, first_line
from unlearnkit.features.network import Network, Normalization
from unlearnkit.weights import resolve

NAMES = (
    "_assert_tensor_metadata _to_copy abs adaptive_avg_pool2d adaptive_max_pool2d add addmm alias amax amin avg_pool2d "
    "batch_norm bmm cat channel_shuffle chunk clamp clamp_max clamp_min clone contiguous conv1d conv2d convolution cos "
    "detach div dropout einsum elu eq erf exp expand expand_as fill flatten floor ge gelu group_norm gt hardsigmoid "
    "hardswish hardtanh index instance_norm layer_norm le leaky_relu linalg_vector_norm linear log log_softmax "
    "logical_not lt masked_fill matmul max_pool2d maximum mean minimum mish mul ne neg new_ones new_zeros pad permute "
    "pixel_shuffle pixel_unshuffle pow prelu reciprocal relu relu6 repeat reshape roll rsqrt rsub "
    "scaled_dot_product_attention select selu sigmoid silu sin slice softmax softplus split split_with_sizes sqrt "
    "squeeze stack sub sum swapaxes sym_size t tanh to transpose type_as unbind unflatten unsqueeze upsample_bicubic2d "
    "upsample_bilinear2d upsample_nearest2d var var_mean view where zeros_like"
)
OPERATORS = frozenset(NAMES.split())
"""What a graph may use of ATen, also in place: arithmetic on tensors, none of which touches a file or a library."""
SIZES = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "floordiv": operator.floordiv}
"""What it may use of Python's own operators, on sizes."""
DTYPES = {1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16,
          7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16}  # fmt: skip
FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
"""torch.export's numbers of types, and of orders in memory."""


def exported(
    weights: str, base: Path, device: torch.device, size: int, interpolation: str, normalize: Normalization
) -> Extractor:
    """Return an exported network; raise `UserError` where its file is missing or holds none of known operators."""
    path = resolve(weights, base, "extractor module")
    assert path is not None
    try:
        return Network(
            Graph(path, device), device, name=path.stem, size=size, weights_sha256=sha256(path),
            interpolation=interpolation, normalize=normalize,
        )  # fmt: skip
    except Exception as error:  # many kinds, for a file of other things as for a network that takes other images
        found = f"no exported network of images [B, 3, {size}, {size}] ({type(error).__name__}: {first_line(error)})"
        advice = "write one with torch.export.save of torch 2.9 or later, or bring the network with a plugin"
        raise UserError(f"extractor module: {path} is {found}; {advice}") from None


class Graph:
    """A network of images [B, 3, S, S], operator by operator."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """Read the graph and its tensors; what is not as expected raises errors of many kinds."""
        with ZipFile(path) as archive:
            if sum(file.file_size for file in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is compressed, which torch.export.save does not do")
            files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        if "constants.pkl" in files:
            raise ValueError("it is a TorchScript archive, and loading one runs the code in it")
        if "models/model.json" not in files:
            raise ValueError("there is no models/model.json in it")
        module = json.loads(files["models/model.json"])["graph_module"]
        (self._output,) = module["graph"]["outputs"]
        self._nodes = [(_operator(node["target"]), node) for node in module["graph"]["nodes"]]
        tensors = {
            name: _tensor(files[f"data/{sort}/{its['path_name']}"], its).to(device)
            for sort in ("weights", "constants")
            for name, its in json.loads(files[f"data/{sort}/model_{sort}_config.json"])["config"].items()
        }
        self._held: dict[str, Tensor] = {}
        for ((sort, its),) in map(dict.items, module["signature"]["input_specs"]):
            if sort == "user_input":
                self._input = its["arg"]["as_tensor"]["name"]
            else:
                self._held[its["arg"]["name"]] = tensors[its[f"{sort}_name"]]
        self._sizes = [side.get("as_int") for side in module["graph"]["tensor_values"][self._input]["sizes"]]

    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network makes of images; raise `ValueError` where it was exported for others."""
        if any(size not in (None, side) for size, side in zip(self._sizes, images.shape, strict=True)):
            raise ValueError(f"it was exported for images {['B' if size is None else size for size in self._sizes]}")
        values: dict[str, Any] = {**self._held, self._input: images}
        for function, node in self._nodes:
            given = [(its["name"], _value(its["arg"], values, images.device)) for its in node["inputs"]]
            aten = node["target"].startswith("torch.")
            made = function(**dict(given)) if aten else function(*(value for _, value in given))
            names = [name for output in node["outputs"] for name in _names(output)]
            values |= zip(names, [made] if isinstance(made, Tensor | int) else made or (), strict=True)
        found = _value(self._output, values, images.device)
        assert isinstance(found, Tensor)
        return found


def _operator(target: str) -> Callable[..., Any]:
    match target.split("."):
        case "torch", "ops", "aten", name, overload if name.removesuffix("_") in OPERATORS:
            return getattr(getattr(torch.ops.aten, name), overload)
        case "_operator", name if name in SIZES:
            return SIZES[name]
    raise ValueError(f"it uses {target[:80]}, which is none of the known operators")


def _tensor(data: bytes, its: Mapping[str, Any]) -> Tensor:
    """Return a weight or a constant of the file."""
    if its["use_pickle"]:
        raise ValueError("a tensor of it is pickled")
    meta = its["tensor_meta"]
    values = torch.frombuffer(bytearray(data), dtype=DTYPES[meta["dtype"]])
    sizes, strides = ([side["as_int"] for side in meta[key]] for key in ("sizes", "strides"))
    return values.as_strided(sizes, strides, meta["storage_offset"]["as_int"])


def _value(given: Mapping[str, Any], values: Mapping[str, Any], device: torch.device) -> Any:
    """Return an argument of an operator."""
    ((sort, it),) = given.items()
    match sort:
        case "as_tensor":
            return values[it["name"]]
        case "as_name":
            return values[it]
        case "as_sym_int":
            return _value(it, values, device)
        case "as_tensors":
            return [values[one["name"]] for one in it]
        case "as_sym_ints" | "as_optional_tensors":
            return [_value(one, values, device) for one in it]
        case "as_scalar_type":
            return DTYPES[it]
        case "as_memory_format":
            return FORMATS[it]
        case "as_int" | "as_ints" | "as_float" | "as_floats" | "as_bool" | "as_bools" | "as_string":
            return it
        case "as_none":
            return None
        case "as_layout":
            return torch.strided
        case "as_device":
            return device
    raise ValueError(f"it has an argument of the sort {sort[:80]}, which is not known")


def _names(output: Mapping[str, Any]) -> list[str]:
    """Return the names of what an operator makes."""
    ((sort, it),) = output.items()
    return [one["name"] for one in it] if sort == "as_tensors" else [it.get("name") or it["as_name"]]
