"""What `plan` and `validate` say is there was looked at: weights, images, classes, places; and a step was taken."""

import gc
import json
from collections import Counter
from pathlib import Path

import diffusers
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_task import ran

from unlearnkit.builtin.data.pictures import Pictures
from unlearnkit.control import ClosedForm, Stage
from unlearnkit.plugins import discover
from unlearnkit.recipe.training import Look, Training
from unlearnkit.recipe.validate import load
from unlearnkit.run import checkpoint
from unlearnkit.run.memory import peak, reset_peak
from unlearnkit.run.pace import Pace, looks
from unlearnkit.run.plan import describe, lines
from unlearnkit.run.room import held
from unlearnkit.run.tasks import Task, lengths, targeted, weigh
from unlearnkit.solver.curve import Along
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.problem import Problem, Span
from unlearnkit.solver.side import Side
from unlearnkit.solver.workbench import build

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")
BLOCKS = "block_out_channels: [8, 16]"
SIZES = {
    "vit-mae": "width: 8, depth: 1, heads: 2, patch_size: 4, decoder_width: 8, decoder_depth: 1, decoder_heads: 2",
    "pix2pix": "width: 4, depth: 2, norm: instance",
    "conv-autoencoder": "channels: [4, 8], latent_channels: 4",
    "mae": "patch_size: 4, width: 8, depth: 1, heads: 2, decoder_width: 8, decoder_depth: 1, decoder_heads: 2",
    "vq-gan": f"{BLOCKS}, codes: 16, code_width: 4",
    "mage": "width: 16, depth: 1, heads: 2, decoder_width: 16, decoder_depth: 1, decoder_heads: 2",
    "autoencoder-kl": f"{BLOCKS}, norm_num_groups: 4",
    "autoencoder-tiny": "block_out_channels: [8, 8]",
    "palette": f"{BLOCKS}, attention_head_dim: 8",
    "latent-inpainting": f"{BLOCKS}, vae_channels: [8, 8], cross_attention_dim: 8, heads: 2, norm_num_groups: 4",
    "instruct-pix2pix": f"{BLOCKS}, vae_channels: [8, 8], cross_attention_dim: 8, heads: 2, norm_num_groups: 4",
}
"""By kind, small sizes that are not the default ones."""
QUICK = "training.steps=4", "training.checks=1", "training.batch_size=2", "data.per_class={train: 4, validation: 2}"


def section(kind: str) -> str:
    steps = ", steps: 2" if kind in ("palette", "latent-inpainting", "instruct-pix2pix") else ""
    return f"{{kind: {kind}, image_size: 16, {SIZES[kind]}{steps}}}"


def planned(recipe: Path, *overrides: str):
    return describe(load(recipe, discover(), overrides).recipe, recipe.parent)


@pytest.mark.parametrize("kind", SIZES)
def test_parameters_are_those_of_the_weights_and_of_a_run(kind, tiny):
    made = load(tiny, discover(), [f"model={section(kind)}"]).recipe
    (tiny.parent / "weights").mkdir()
    made.model.build(None).save(tiny.parent / "weights")
    # Some write not all sizes beside their weights.
    alone = kind in ("vit-mae", "pix2pix", "conv-autoencoder", "mae", "autoencoder-tiny")
    counted_as_in_a_run(tiny, section(kind) if alone else f"{{kind: {kind}}}")


def test_parameters_of_a_kind_without_sizes_are_those_of_a_run(tiny):
    net = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    net.save_pretrained(tiny.parent / "weights")
    counted_as_in_a_run(tiny, "{kind: autoencoder, weights: weights, image_size: [16, 12]}")


def test_parameters_of_adapters_are_those_of_a_run_and_change_those_of_the_model_not(tiny):
    lora = "model.train={kind: lora, rank: 1}"
    bench = build(load(tiny, discover(), [lora]).recipe, tiny.parent)
    plan, plain = planned(tiny, lora, *QUICK), planned(tiny, *QUICK)
    assert plan["parameters"]["trained"] == bench.flat.theta.numel() < plain["parameters"]["trained"]
    assert plan["parameters"]["all"] == plain["parameters"]["all"]


def counted_as_in_a_run(tiny: Path, model: str) -> None:
    """Check what a plan says of a model with the weights `weights`."""
    overrides = (f"model={model}", "model.weights=weights", *QUICK)
    plan = planned(tiny, *overrides)
    bench = build(load(tiny, discover(), overrides).recipe, tiny.parent)
    assert plan["missing"] == []
    assert plan["parameters"] == {
        "trained": bench.flat.theta.numel(),
        "all": sum(parameter.numel() for parameter in bench.reference.module.parameters()),
        "from": "weights",
    }
    assert 0 < plan["seconds"]["step"] == pytest.approx(plan["seconds"]["steps"] / plan["steps"])
    assert plan["images"]["looked_at"] == 18


def unet(inputs=4, **sizes):
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=inputs, out_channels=4, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, layers_per_block=1,
        cross_attention_dim=8, attention_head_dim=2, **sizes,
    )  # fmt: skip


def pipeline(folder: Path, name: str, net) -> None:
    """Write what of a published pipeline matters here: its U-Net, its autoencoder, its index."""
    net.save_pretrained(folder / "unet")
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, sample_size=16,
    )  # fmt: skip
    vae.save_pretrained(folder / "vae")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))


def page(folder: Path) -> None:
    (folder / "w").write_text("<!DOCTYPE html><html><title>Sign in</title></html>")


def transformers_mae(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4,
        decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=32,
    )).save_pretrained(folder / "w")  # fmt: skip


def sdxl() -> diffusers.UNet2DConditionModel:
    return unet(addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=56)


def controlnet(folder: Path) -> None:
    net = diffusers.ControlNetModel(
        block_out_channels=(8, 16), down_block_types=("DownBlock2D",) * 2, norm_num_groups=4, cross_attention_dim=8,
        layers_per_block=1, attention_head_dim=2,
    )  # fmt: skip
    net.save_pretrained(folder / "w")


def single(folder: Path) -> None:
    torch.save({"state_dict": {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3)}}, folder / "w")


def unconditional(folder: Path) -> None:
    net = diffusers.UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), norm_num_groups=4, attention_head_dim=8, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    net.save_pretrained(folder / "w")


def other_sizes(folder: Path) -> None:
    save_file({"encoder.blocks.0.fc1.weight": torch.zeros(4, 4), "decoder.mask_token": torch.zeros(4)}, folder / "w")


MISFITS = {
    "a web page": ("vit-mae", page, "it is a web page"),
    "transformers' ViTMAE": ("vit-mae", transformers_mae, "ViTMAE of transformers, which `kind: mae`"),
    "Stable Diffusion 1.5": (
        "latent-inpainting", lambda folder: pipeline(folder / "w", "StableDiffusionPipeline", unet()),
        "4 input and 4 output channels, but an inpainting one has 9 and 4",
    ),
    "InstructPix2Pix": (
        "latent-inpainting", lambda folder: pipeline(folder / "w", "StableDiffusionInstructPix2PixPipeline", unet(8)),
        "8 input and 4 output channels, but an inpainting one has 9 and 4",
    ),
    "SDXL": (
        "latent-inpainting", lambda folder: pipeline(folder / "w", "StableDiffusionXLPipeline", sdxl()),
        "4 input and 4 output channels, but an inpainting one has 9 and 4",
    ),
    "ControlNet": ("latent-inpainting", controlnet, "no unet/ in it"),
    "a checkpoint in one file": ("latent-inpainting", single, "give the folder"),
    "an unconditional U-Net": ("palette", unconditional, "3 input and 3 output channels"),
    "other sizes": ("vit-mae", other_sizes, "the weights do not fit the model"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_a_plan_opens_the_weights_and_says_what_does_not_fit(name, tiny, unlearnkit):
    kind, write, words = MISFITS[name]
    write(tiny.parent)
    outcome = unlearnkit("plan", tiny, "--set", f"model={{kind: {kind}}}", "--set", "model.weights=w")
    assert outcome.code == 3
    assert words in outcome.out
    assert "by the sizes in the recipe alone" in outcome.out
    assert "nothing is missing" not in outcome.out


def test_a_variant_alone_is_no_misfit(tiny):
    made = load(tiny, discover(), [f"model={section('vq-gan')}"]).recipe.model.build(None)
    (tiny.parent / "w").mkdir()
    made.save(tiny.parent / "w")
    net = diffusers.VQModel.from_pretrained(tiny.parent / "w").half()
    net.save_pretrained(tiny.parent / "half", variant="fp16")
    assert planned(tiny, "model={kind: vq-gan, weights: half}", *QUICK)["missing"] == []


def test_a_plan_looks_at_a_sample_of_the_images_or_at_all(tiny, unlearnkit, monkeypatch):
    monkeypatch.setattr("unlearnkit.run.plan.SAMPLE", 2)
    decoded, read = list[str](), Pictures.read
    monkeypatch.setattr(Pictures, "read", lambda self, item, size: decoded.append(item.key) or read(self, item, size))
    for _ in range(2):  # also where they have been seen before
        decoded.clear()
        assert planned(tiny)["images"]["looked_at"] == 8
        assert len(decoded) >= 8
    (whole := json.loads(unlearnkit("plan", tiny, "--json", "--all-images").succeeded().out))
    assert whole["images"]["looked_at"] == 8 + 4 + 16 + 8
    for path in (tiny.parent / "pictures" / "blue").glob("*.png"):
        path.write_bytes(path.read_bytes()[:100])
    outcome = unlearnkit("plan", tiny)
    assert outcome.code == 3
    assert "pictures/blue" in outcome.out
    assert "missing or wrong here" in outcome.out


def test_a_copy_under_another_name_is_told_by_a_look_at_all(tiny, unlearnkit):
    forgotten = Image.open(tiny.parent / "pictures" / "red" / "00.png")
    for place in range(12):
        forgotten.save(tiny.parent / "pictures" / "blue" / f"{place:02}.bmp")
    plan = unlearnkit("plan", tiny, "--all-images", "--set", "data.per_class={}").succeeded()
    assert "12 of its images are copies of forget images and left out" in plan.out


WRONG = {
    "data.source.root=nowhere": "data.source.root: there is no folder",
    "data.forget.classes=[rod]": "data.forget: unknown class 'rod'; did you mean 'red'?",
    "model.weights=gone.safetensors": "model.weights: there is no file or folder",
    "model.weights=sample:mae-224": "sample:mae-224: there is no such sample; there is: inpaint-64, mae-64",
    "model.weights=hub:some/model": "is no pinned reference",
    "forget={kind: target-output, target: {kind: retrained, weights: gone}}": "forget.target.weights: there is no",
    "evaluate.metrics=[{kind: lpips, weights: gone.pth}]": "evaluate.metrics[0].weights: there is no",
    "data.forget={files: gone.txt}": "data.forget.files: there is no file",
}


@pytest.mark.parametrize("override", WRONG)
def test_validate_knows_what_is_named(override, tiny, unlearnkit):
    unlearnkit("validate", tiny).succeeded()
    outcome = unlearnkit("validate", tiny, "--set", override)
    assert outcome.code == 3
    assert WRONG[override] in outcome.err
    assert "valid" not in outcome.out


def test_all_that_is_missing_is_said_at_once(tiny, unlearnkit):
    outcome = unlearnkit("validate", tiny, "--set", "data.source.root=nowhere", "--set", "model.weights=gone")
    assert len([line for line in outcome.err.splitlines() if line.startswith("error: ")]) == 2
    recipe = tiny.parent / "pretrain.yaml"
    recipe.write_text(
        "model: {kind: vit-mae, weights: gone}\ntasks: [{kind: center-crop}]\npretrain: {}\nname: x\n"
        "data: {source: {kind: image-folder, root: pictures}, classes: [rod]}\n"
    )
    outcome = unlearnkit("validate", recipe)
    assert outcome.code == 3
    assert "unknown class 'rod'" in outcome.err
    assert "model.weights: there is no file" in outcome.err


def test_what_is_wrong_with_names_is_said_before_anything_is_built(tiny, unlearnkit, monkeypatch):
    def built(*given: object) -> None:
        raise AssertionError("the model was built")

    monkeypatch.setattr("unlearnkit.builtin.models.sections.VitMae.build", built)
    (tiny.parent / "full").mkdir()
    (tiny.parent / "full" / "file").write_text("")
    assert "exists already" in unlearnkit("run", tiny, "--to", "full").err
    assert "unknown class 'rod'" in unlearnkit("run", tiny, "--set", "data.forget.classes=[rod]").err
    assert not (tiny.parent / "runs").exists()


def test_a_plan_says_hours_and_what_comes_on_top(tiny):
    plan = planned(tiny)
    spent = plan["seconds"]
    assert spent.keys() == {"step", "steps", "looks", "checkpoints", "saved", "preparation"}
    assert spent["checkpoints"] > 0
    assert spent["saved"] == 0, "the sets are smaller than a smaller look"
    assert "training.look" not in "\n".join(lines(plan))
    plan["seconds"] = {"step": 0.5, "steps": 7200.0, "looks": 90.0, "saved": 60.0, "preparation": 3.0}
    plan["seconds"]["checkpoints"] = 30.0
    said = "\n".join(lines(plan))
    assert "training.look: {images: 1024} would save 1.0 min of the looks" in said
    assert "by a measured step of 0.5 s: steps 2.0 h, looks 1.5 min, checkpoints 30.0 s, preparation 3.0 s" in said
    assert "evaluation and audits come on top" in said


@pytest.mark.parametrize(
    ("images", "seconds"),
    [(None, 2 * 600 * 3.0), (500, 2 * 600 * 3.0), (50, 2 * 100 * 4 + 600), (200, 2 * 300 * 4 + 600)],
)
def test_looks_at_some_images_are_planned_as_they_are_made(images, seconds):
    """Each is a gradient and a pass by itself, and a pass over the whole sets comes on top."""
    training = Training(checks=2, look=images and Look(images=images))
    assert looks(Pace(step=9, look=3, seen=1, frozen=9, saved=9), (100, 500), training) == seconds


AIMED = "epsilons.targets=[{kind: unseen, polish: 30}, {kind: epsilon, fraction: 0.3, polish: 40}]"
COUNTED = {
    "independent": (),
    "continuation": ("sweep={kind: continuation}",),
    "curve": ("sweep={kind: curve}",),
    "polished curve": ("sweep={kind: curve, polish: 9}", AIMED),
    "sampled": ("training.look={images: 6}",),
    "targets": (AIMED,),
    "compared": ("compare=[{kind: composite}, {kind: retrain, original_steps: 31}]",),
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_plan_counts_the_steps_looks_and_files_of_a_run(name, tiny, monkeypatch):
    monkeypatch.setenv("UNLEARNKIT_CACHE", str(tiny.parent / "cache"))
    changes = (*COUNTED[name], "evaluate={metrics: [{kind: hidden-psnr}], images: 1, stops: 0}")
    with monkeypatch.context() as patched:
        unit = Pace(step=1.0, look=1e6, seen=1.0, frozen=0.0, saved=1.0)
        patched.setattr("unlearnkit.run.plan.pace", lambda bench: unit)
        patched.setattr("unlearnkit.run.plan.paces", lambda *given: {})
        plan = planned(tiny, *changes)
    done = Counter[str]()

    def counting(owner, name, count):
        whole = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: (done.update(count(*given)), whole(*given))[1])

    counting(Descent, "step", lambda *_: {"step": 1})
    counting(Descent, "back", lambda *_: {"look": -8 - 16})  # as nobody knows before
    counting(checkpoint, "write", lambda *_: {"saved": 1})
    counting(Side, "_term", lambda side, rows, *_: {"look" if torch.is_grad_enabled() else "seen": len(rows)})
    began = list[int]()
    ran(tiny, tiny.parent / "run", *changes, tell=lambda event: began.append(event.get("whole", 0)))
    look, seen = divmod(plan["seconds"]["looks"], 1e6)
    assert plan["steps"] == plan["seconds"]["steps"] == max(began) == done["step"]
    assert plan["seconds"]["checkpoints"] == done["saved"]
    if AIMED in changes:
        assert look == pytest.approx(done["look"], rel=0.1), "about, as landing from above looks at gradients"
    else:
        assert look == done["look"]
        assert seen == pytest.approx(done["seen"] - 8 - 24, rel=0.4), "about, as lines are searched"


def test_a_plan_counts_what_is_kept_on_disk(tiny):
    changes = ("task={kind: center-crop}", "training.crop=null")
    held, kept = (
        describe(
            load(tiny, discover(), [*changes, f"training.cache.memory_mib={mib}"]).recipe, tiny.parent, timed=False
        )
        for mib in (100, 0)
    )
    assert kept["frozen"]["where"] == "disk"
    assert kept["disk_mib"] == pytest.approx(held["disk_mib"] + kept["frozen"]["kept_mib"], abs=1)


def test_what_a_target_costs_is_its_polish(tiny):
    recipe = load(tiny, discover(), [AIMED]).recipe
    cost = weigh(recipe, lengths(recipe, 24, []))
    found = [cost(Task("", "solve", name)) for name in targeted(recipe)]
    assert [*targeted(recipe)] == ["target-unseen", "epsilon-at-0.3"]
    assert found == [30 / 24, 40 / 24]


@pytest.mark.parametrize("degree", [None, 1, 5])
def test_a_plan_says_the_disk_that_a_run_asks_for_and_needs(degree, tiny, monkeypatch):
    sweep = f"sweep={{kind: curve, degree: {degree}}}" if degree else "sweep={kind: independent}"
    changes = (sweep, "epsilons.targets=[{kind: unseen}]", "training.steps=4", "training.checkpoint_every=1")
    changes = (*changes, "model.width=64", "model.depth=3", "evaluate.stops=0")
    plan, run = describe(load(tiny, discover(), changes).recipe, tiny.parent, timed=False), tiny.parent / "run"
    asked, sizes, write = list[int](), [0], checkpoint.write
    monkeypatch.setattr("unlearnkit.run.runner.refuse_full", lambda folder, needed: asked.append(needed))

    def measured(*given):
        write(*given)
        sizes.append(sum(path.stat().st_size for path in run.rglob("*") if path.is_file()))

    monkeypatch.setattr(checkpoint, "write", measured)
    ran(tiny, run, *changes)
    assert plan["disk_mib"] == round(asked[0] / 2**20)
    assert asked[0] / 3 < max(sizes) < asked[0]


@pytest.mark.parametrize("degree", [None, 3])
def test_a_plan_counts_the_vectors_that_solving_holds(degree, tiny):
    def living() -> int:
        gc.collect()
        tensors = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
        every = [*tensors, *(one.grad for one in tensors if one.is_leaf and one.grad is not None)]
        return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in every}.values())

    sweep = f"sweep={{kind: curve, degree: {degree}}}" if degree else "sweep={kind: independent}"
    before, recipe = living(), load(tiny, discover(), (sweep, "model.width=64", "model.depth=3")).recipe
    bench = build(recipe, tiny.parent)
    rule = Along() if degree else ClosedForm()
    stage, span = Stage(bench.losses.forget, bench.losses.retain, rule), Span(degree, 1.0, 2.0) if degree else None
    descent = bench.begun(Problem("one", [stage], recipe.control.boundary.build(), part="encoder", span=span))
    descent.begin(bench.origin.repeat(degree or 1))
    descent.warm()
    for _ in range(2):
        descent.step()
    ends = 2 * bench.origin.numel() * 4  # of phase 1, which phase 2 holds beside what it is at
    assert living() - before + ends == pytest.approx(held(recipe, bench.student), rel=0.05)


def test_a_plan_says_what_was_left_out_of_names(tiny):
    model = load(tiny, discover()).recipe.model.build(None)
    state = {f"module.{name}": value for name, value in model.module.state_dict().items()}
    torch.save({"state_dict": state}, tiny.parent / "w.pth")
    plan = planned(tiny, "model.weights=w.pth", *QUICK)
    assert [note for note in plan["notes"] if "state_dict.module" in note] == plan["notes"] != []


def test_all_that_is_the_encoder_alone_is_told_and_moves_nothing_else(tiny):
    changes = ("model.train=all", "epsilons={fractions: [0.5]}")
    bench = build(load(tiny, discover(), changes).recipe, tiny.parent)
    (told,) = bench.cautions
    assert "`all` unlearns the encoder alone" in told
    assert told in planned(tiny, *changes)["notes"]
    run = ran(tiny, tiny.parent / "run", *changes)
    assert json.loads((run / "manifest.json").read_text())["warnings"].count(told) == 1
    assert "unlearns the encoder alone" in (run / "report.html").read_text()
    inside = bench.flats["encoder"].theta.numel()
    for path in (run / "solutions").glob("*.safetensors"):
        theta = load_file(path)["theta"]
        assert torch.equal(theta[inside:], bench.origin[inside:])
        assert not torch.equal(theta[:inside], bench.origin[:inside])


@pytest.mark.parametrize(
    "changes",
    [
        ("model.train=encoder",),
        ("model.train=all", "retain.kind=reference-output"),
        ("model.train=all", "forget.kind=noise-output"),
    ],
)
def test_nothing_is_told_where_a_loss_reaches_all_that_is_trained(changes, tiny):
    assert build(load(tiny, discover(), changes).recipe, tiny.parent).cautions == ()


@pytest.fixture
def billion(tiny):
    """Return the size of a Palette whose folder `w` has a header and no weights behind it."""
    folder = tiny.parent / "w" / "unet"
    folder.mkdir(parents=True)
    with torch.device("meta"):
        net = diffusers.UNet2DModel(
            sample_size=16, in_channels=6, out_channels=3, block_out_channels=(512, 1024, 1600), layers_per_block=4,
            down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3,
        )  # fmt: skip
    net.save_config(folder)
    header, size = {}, 0
    for name, value in net.state_dict().items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [size, size + 4 * value.numel()]}
        size += 4 * value.numel()
    text = json.dumps(header).encode()
    with (folder / "diffusion_pytorch_model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + size)  # sparse
    return size // 4


def test_a_billion_parameters_are_planned_without_loading_them(billion, tiny, monkeypatch):
    assert billion > 1e9
    for place in ("plan", "room"):
        monkeypatch.setattr(f"unlearnkit.run.{place}.memory", lambda device: 2**32)
    cpu, changes = torch.device("cpu"), ("model={kind: palette, weights: w, train: all}", *QUICK)
    reset_peak(cpu)
    before = peak(cpu)
    plan = planned(tiny, *changes)
    assert peak(cpu) - before < billion * 4 / 2**20 / 10
    assert plan["parameters"] == {"trained": billion, "all": billion, "from": "weights"}
    assert plan["exit_code"] == 5
    full, there = billion * 36 / 2**30, "4.0 GiB"
    (told,) = plan["missing"]
    assert f"take {full:.1f} GiB, and cpu has {there}, so that nothing was loaded" in told
    assert f"{full:.1f} GiB in all, of {there} that cpu has" in "\n".join(lines(plan))
    adapters = planned(tiny, *changes, "model.train={kind: lora, part: all}")
    (still,) = adapters["missing"]
    once, added = 4 * billion, 9 * 4 * adapters["parameters"]["trained"]
    assert adapters["parameters"]["trained"] < billion / 50
    assert f"`model.train: {{kind: lora, part: all}}`, which take {(once + added) / 2**30:.1f} GiB" in told
    assert f"take {(once + added) / 2**30:.1f} GiB" in still
    assert "model.train" not in still
