"""Files that recipes of every kind can name: two of each, so that a path can be changed."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from tiny_task import write_tiny

CLASSES = ("red", "green", "blue")
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def build(folder: Path) -> Path:
    """Write them all beside the tiny recipe, and return it."""
    recipe = write_tiny(folder)
    for number, one in enumerate(("a", "b")):
        _pictures(folder / one / "pictures", number)
        _manifest(folder / one)
        _cifar(folder / one / "cifar", number)
        _stl(folder / one / "stl", number)
        _places(folder / one / "places", number)
        _shards(folder / one / "shards", number)
        _weights(folder / one, number)
        Image.fromarray(pixels(900 + number)).save(folder / one / "surrogate.png")
        listed = sorted(path.name for path in (folder / "pictures" / "red").iterdir())
        (folder / one / "forgotten.txt").write_text("".join(f"red/{name}\n" for name in listed[number : 11 + number]))
        (folder / one / "retained.txt").write_text("".join(f"blue/{name}\n" for name in listed[number : 11 + number]))
    return recipe


def pixels(number: int, size: int = 20) -> np.ndarray:
    """Return a random image [size, size, 3]."""
    return np.random.default_rng(number).integers(0, 255, (size, size, 3), dtype=np.uint8)


def _png(number: int, size: int = 20) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(number, size)).save(stream, "PNG")
    return stream.getvalue()


def _written(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _pictures(folder: Path, world: int) -> None:
    for place, label in enumerate(CLASSES):
        for number in range(12):
            _written(folder / label / f"{number:02}.png", _png(1000 * world + 100 * place + number))


def _manifest(folder: Path) -> None:
    """List the folder's pictures by two columns of each sort."""
    lines = ["file,other,label,colour,split,part"]
    for place, label in enumerate(CLASSES):
        for number in range(1, 12):
            half, part = ("validation" if flag else "train" for flag in (number > 8, number < 4))
            other = CLASSES[(place + number) % 3]
            lines.append(f"{label}/{number:02}.png,{label}/{12 - number:02}.png,{label},{other},{half},{part}")
    (folder / "pictures" / "list.csv").write_text("\n".join(lines) + "\n")


def _cifar(folder: Path, world: int) -> None:
    batches = folder / "cifar-10-batches-py"
    for number, name in enumerate([*(f"data_batch_{place}" for place in range(1, 6)), "test_batch"]):
        rows = [pixels(1000 * world + 10 * number + row, 32).transpose(2, 0, 1).reshape(-1) for row in range(4)]
        _written(batches / name, pickle.dumps({"data": np.stack(rows), "labels": [0, 1, 9, 9]}))
    _written(batches / "batches.meta", pickle.dumps({"label_names": list(NAMES)}))


def _stl(folder: Path, world: int) -> None:
    binary = folder / "stl10_binary"
    for half, count in (("train", 12), ("test", 4)):
        numbers = [1000 * world + count + row for row in range(count)]
        _written(binary / f"{half}_X.bin", np.stack([pixels(one, 96).transpose(2, 1, 0) for one in numbers]).tobytes())
        _written(binary / f"{half}_y.bin", np.array([1, 10] * (count // 2), np.uint8).tobytes())
    for name in ("unlabeled_X.bin", "fold_indices.txt"):
        _written(binary / name, b"")
    _written(binary / "class_names.txt", ("\n".join(NAMES) + "\n").encode())


def _places(folder: Path, world: int) -> None:
    _written(folder / "categories_places365.txt", b"/a/airfield 0\n/z/zoo 1\n")
    train, held = ([(place, number) for place in range(2) for number in range(count)] for count in (6, 2))
    names = ("airfield", "zoo")
    lines = "".join(f"/{names[place][0]}/{names[place]}/{number}.jpg {place}\n" for place, number in train)
    _written(folder / "places365_train_standard.txt", lines.encode())
    _written(folder / "places365_val.txt", "".join(f"{place}{number}.jpg {place}\n" for place, number in held).encode())
    for size, (train_folder, held_folder) in enumerate(
        (("data_256_standard", "val_256"), ("data_large_standard", "val_large"))
    ):
        first = 1000 * world + 500 * size
        for place, number in train:
            name = f"{names[place][0]}/{names[place]}/{number}.jpg"
            _written(folder / train_folder / name, _png(first + 100 * place + number))
        for place, number in held:
            _written(folder / held_folder / f"{place}{number}.jpg", _png(first + 300 + 10 * place + number))


def _shards(folder: Path, world: int) -> None:
    for half, first, count in (("train", 0, 9), ("held", 50, 4)):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for row in range(first, first + count):
                fields = b'{"other": "%s"}' % CLASSES[(row + 1) % 2].encode()
                for name, data in (
                    (f"{row:03}.png", _png(1000 * world + row)),
                    (f"{row:03}.cls", CLASSES[row % 2].encode()),
                    (f"{row:03}.json", fields),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        _written(folder / f"{half}.tar", stream.getvalue())


def _weights(folder: Path, world: int) -> None:
    """Write weights of the tiny model, an exported network of 16 features, and SqueezeNet's; none of them trained."""
    import torch
    from safetensors.torch import save_file
    from torch import nn
    from torchvision.models import alexnet, squeezenet1_1

    from unlearnkit.builtin.models.sections import ConvAutoencoder, Pix2Pix
    from unlearnkit.plugins import discover
    from unlearnkit.recipe.validate import load

    torch.manual_seed(world)
    section = load(folder.parent / "tiny.yaml", discover()).recipe.model
    save_file(section.build(None).module.state_dict(), folder / "model.safetensors")
    translated = Pix2Pix(kind="pix2pix", image_size=16, width=4, depth=2).build(None)
    save_file(dict(translated.module.published()), folder / "pix2pix.safetensors")
    plain = ConvAutoencoder(kind="conv-autoencoder", image_size=16, channels=(4, 8), latent_channels=4).build(None)
    save_file(plain.module.state_dict(), folder / "conv.safetensors")
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Tanh(), nn.Conv2d(8, 16, 3, 2), nn.Tanh()).eval()
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(module, (torch.rand(4, 3, 16, 16),), dynamic_shapes=(batch,))
    torch.export.save(exported, folder / "network.pt2")
    torch.save(squeezenet1_1(weights=None).state_dict(), folder / "squeeze.pth")
    features = {name: value for name, value in alexnet(weights=None).state_dict().items() if "features" in name}
    torch.save(features, folder / "alex.pth")
