"""The masked autoencoder: its contract, the official layout, and a computation of its own for comparison."""

import pytest
import torch
import unlearnkit_timm
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from unlearnkit_timm import MAE

from unlearnkit.builtin.tasks import CenterCrop, RandomBox, Reconstruction
from unlearnkit.data import seeded
from unlearnkit.errors import UserError
from unlearnkit.testing import check_model, check_plugin

SIZES = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
DECODER = {"decoder_width": 12, "decoder_depth": 1, "decoder_heads": 3}
SMALL = MAE(kind="mae", **SIZES, **DECODER)
TASKS = [CenterCrop(kind="center-crop"), RandomBox(kind="random-box"), Reconstruction(kind="reconstruction")]
# Width, depth, patch and patches of the published encoders (He et al. 2022, and the official checkpoints).
PUBLISHED = {
    "vit_base_patch16_224": (768, 12, 16, 196),
    "vit_large_patch16_224": (1024, 24, 16, 196),
    "vit_huge_patch14_224": (1280, 32, 14, 256),
}


def layout(width: int, depth: int, patch: int, patches: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of an official checkpoint with its decoder of 512 by 8."""

    def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    def norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (size,), f"{name}.bias": (size,)}

    def block(name: str, size: int) -> dict[str, tuple[int, ...]]:
        return {
            **norm(f"{name}.norm1", size), **linear(f"{name}.attn.qkv", 3 * size, size),
            **linear(f"{name}.attn.proj", size, size), **norm(f"{name}.norm2", size),
            **linear(f"{name}.mlp.fc1", 4 * size, size), **linear(f"{name}.mlp.fc2", size, 4 * size),
        }  # fmt: skip

    shapes = {
        "cls_token": (1, 1, width), "pos_embed": (1, patches + 1, width), "mask_token": (1, 1, 512),
        "decoder_pos_embed": (1, patches + 1, 512),
        "patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,),
        **norm("norm", width), **linear("decoder_embed", 512, width), **norm("decoder_norm", 512),
        **linear("decoder_pred", 3 * patch**2, 512),
    }  # fmt: skip
    for number in range(depth):
        shapes |= block(f"blocks.{number}", width)
    for number in range(8):
        shapes |= block(f"decoder_blocks.{number}", 512)
    return shapes


def views(adapter, task, count=2):
    images = torch.rand(count, 3, adapter.image_size, adapter.image_size, generator=seeded("images"))
    return images, adapter.view(task.build(), images, seeded("view"))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_it_keeps_its_contract(task, norm_pix_loss):
    check_model(SMALL.model_copy(update={"norm_pix_loss": norm_pix_loss}), task.build())


def test_the_plugin_registers(tmp_path, monkeypatch):
    monkeypatch.setattr("unlearnkit.testing.plugin.check_model", lambda section: None)  # the default is ViT-B
    assert check_plugin(unlearnkit_timm, tmp_path) == ["mae"]


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_names_and_shapes_are_those_of_the_official_checkpoints(architecture):
    with torch.device("meta"):
        wanted = {name: torch.empty(shape) for name, shape in layout(*PUBLISHED[architecture]).items()}
    depth = {"depth": 1} if "base" not in architecture else {}
    adapter = MAE(kind="mae", architecture=architecture, **depth).build(None)
    found = adapter.module.official()
    blocks = {name.split(".")[1] for name in wanted if name.startswith("blocks.")}
    if depth:  # the big ones with one block; all their blocks are alike
        wanted = {name: value for name, value in wanted.items() if not name.startswith("blocks.") or ".0." in name[:9]}
        assert len(blocks) == PUBLISHED[architecture][1]
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in wanted.items()}


def test_an_official_checkpoint_of_base_size_loads(tmp_path):
    torch.manual_seed(1)
    state = {name: torch.randn(shape) * 0.02 for name, shape in layout(*PUBLISHED["vit_base_patch16_224"]).items()}
    torch.save({"model": state}, tmp_path / "mae_pretrain_vit_base_full.pth")
    adapter = MAE(kind="mae").build(tmp_path / "mae_pretrain_vit_base_full.pth")
    assert all(torch.equal(value, state[name]) for name, value in adapter.module.official().items())


def independent(state: dict[str, torch.Tensor], images: torch.Tensor, keep: list[int], patch: int) -> tuple:
    """Compute embedding and prediction of images that show the patches `keep`, from the official names alone."""

    def attention(x, name, heads):
        q, k, v = F.linear(x, state[f"{name}.qkv.weight"], state[f"{name}.qkv.bias"]).chunk(3, dim=-1)
        out = []
        for head in range(heads):
            place = slice(head * q.shape[-1] // heads, (head + 1) * q.shape[-1] // heads)
            scores = (q[..., place] @ k[..., place].transpose(1, 2)) / (q.shape[-1] // heads) ** 0.5
            out.append(scores.softmax(-1) @ v[..., place])
        return F.linear(torch.cat(out, -1), state[f"{name}.proj.weight"], state[f"{name}.proj.bias"])

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def block(x, name, heads):
        x = x + attention(norm(x, f"{name}.norm1"), f"{name}.attn", heads)
        hidden = F.linear(norm(x, f"{name}.norm2"), state[f"{name}.mlp.fc1.weight"], state[f"{name}.mlp.fc1.bias"])
        return x + F.linear(F.gelu(hidden), state[f"{name}.mlp.fc2.weight"], state[f"{name}.mlp.fc2.bias"])

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (images - mean[:, None, None]) / std[:, None, None]
    x = F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=patch)
    x = x.flatten(2).transpose(1, 2) + state["pos_embed"][:, 1:]
    x = torch.cat([(state["cls_token"] + state["pos_embed"][:, :1]).expand(len(x), -1, -1), x[:, keep]], 1)
    for number in range(2):
        x = block(x, f"blocks.{number}", 2)
    embedding = norm(x, "norm")
    y = F.linear(embedding, state["decoder_embed.weight"], state["decoder_embed.bias"])
    count = state["decoder_pos_embed"].shape[1] - 1
    full = state["mask_token"].repeat(len(x), count, 1)
    full[:, keep] = y[:, 1:]
    y = torch.cat([y[:, :1], full], 1) + state["decoder_pos_embed"]
    y = norm(block(y, "decoder_blocks.0", 3), "decoder_norm")
    values = F.linear(y, state["decoder_pred.weight"], state["decoder_pred.bias"])[:, 1:]
    side = int(count**0.5)
    picture = torch.empty(len(x), 3, side * patch, side * patch)
    for number in range(count):  # a patch's values run over rows, columns and then colours
        row, column = number // side * patch, number % side * patch
        tile = values[:, number].view(len(x), patch, patch, 3).permute(0, 3, 1, 2)
        picture[:, :, row : row + patch, column : column + patch] = tile
    return embedding, values, picture * std[:, None, None] + mean[:, None, None]


def test_a_converted_checkpoint_computes_what_the_paper_says(tmp_path):
    torch.manual_seed(2)
    state = {name: torch.randn(value.shape) * 0.3 for name, value in SMALL.build(None).module.official().items()}
    torch.save({"model": state, "epoch": 799}, tmp_path / "mae.pth")
    adapter = SMALL.build(tmp_path / "mae.pth")
    _, view = views(adapter, CenterCrop(kind="center-crop"))
    keep = [number for number in range(16) if number not in (5, 6, 9, 10)]
    embedding, _, picture = independent(state, view.images, keep, 4)
    with torch.no_grad():
        found = adapter.embed(view)
        assert torch.allclose(found, embedding, atol=1e-5)
        assert torch.allclose(adapter.decode(found, view), picture, atol=1e-4)


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_the_own_loss_is_that_of_the_hidden_patches(norm_pix_loss):
    torch.manual_seed(3)
    adapter = SMALL.model_copy(update={"norm_pix_loss": norm_pix_loss}).build(None)
    images, view = views(adapter, CenterCrop(kind="center-crop"))
    keep = [number for number in range(16) if number not in (5, 6, 9, 10)]
    _, values, _ = independent(adapter.module.official(), view.images, keep, 4)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = (images - mean[:, None, None]) / std[:, None, None]
    errors = []
    for number in (5, 6, 9, 10):
        row, column = number // 4 * 4, number % 4 * 4
        tile = wanted[:, :, row : row + 4, column : column + 4].permute(0, 2, 3, 1).flatten(1)
        if norm_pix_loss:
            tile = (tile - tile.mean(1, keepdim=True)) / (tile.var(1, keepdim=True) + 1e-6).sqrt()
        errors.append((values[:, number] - tile).square().mean())
    assert adapter.own_loss(images, view).item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


def test_a_shorter_row_of_a_batch_is_embedded_as_if_alone():
    torch.manual_seed(4)
    adapter = SMALL.build(None)
    images = torch.rand(2, 3, 16, 16)
    hidden = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    hidden[0, :, 4:12, 4:12] = True
    hidden[1, :, 4:8, 4:8] = True
    from unlearnkit.contracts import View

    with torch.no_grad():
        both = adapter.embed(View(images, hidden))
        alone = adapter.embed(View(images[:1], hidden[:1]))
        whole = adapter.decode(both, View(images, hidden))
        single = adapter.decode(alone, View(images[:1], hidden[:1]))
    assert torch.allclose(both[:1, :13], alone, atol=1e-5)
    assert not both[0, 13:].any(), "padding is zero"
    assert torch.allclose(whole[:1], single, atol=1e-5)


def test_half_precision_files_and_folders_load(tmp_path):
    adapter = SMALL.build(None)
    adapter.save(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({name: value.half() for name, value in state.items()}, tmp_path / "model.safetensors")
    again = SMALL.build(tmp_path)
    assert all(torch.allclose(value, again.module.official()[name], atol=1e-3) for name, value in state.items())


def test_an_encoder_alone_needs_a_word(tmp_path):
    state = {
        name: value for name, value in SMALL.build(None).module.official().items()
        if not name.startswith(("decoder_", "mask_token"))
    } | {"head.weight": torch.ones(1000, 16), "head.bias": torch.ones(1000)}  # fmt: skip
    save_file(state, tmp_path / "encoder.safetensors")
    with pytest.raises(UserError, match=r"encoder alone; .*`decoder: fresh`"):
        SMALL.build(tmp_path / "encoder.safetensors")
    adapter = SMALL.model_copy(update={"decoder": "fresh"}).build(tmp_path / "encoder.safetensors")
    assert torch.equal(adapter.module.official()["blocks.1.mlp.fc1.weight"], state["blocks.1.mlp.fc1.weight"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "vit_bass_patch16_224"}, "did you mean 'vit_base_patch16_224'"),
        ({"architecture": "vit_base_patch16_siglip_224"}, "no plain vision transformer"),
        ({"patch_size": 5}, "must divide image_size"),
        ({"heads": 5}, "timm cannot build"),
        ({"decoder_heads": 5}, "must divide decoder_width"),
    ],
)
def test_sizes_that_do_not_fit_are_one_message(changes, words):
    with pytest.raises(UserError, match=words) as caught:
        SMALL.model_copy(update=changes).build(None)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_family_is_named(tmp_path):
    from unlearnkit.builtin.models import VitMae

    other = VitMae(kind="vit-mae", image_size=16, patch_size=4, width=16, depth=1, heads=2).build(None)
    other.save(tmp_path)
    with pytest.raises(UserError, match="looks like unlearnkit's own vit-mae"):
        SMALL.build(tmp_path)


def test_fresh_weights_come_from_the_seed():
    first, second = (MAE(kind="mae", **SIZES, **DECODER) for _ in range(2))
    torch.manual_seed(5)
    one = first.build(None)
    torch.manual_seed(5)
    assert all(
        torch.equal(value, one.module.official()[name]) for name, value in second.build(None).module.official().items()
    )
