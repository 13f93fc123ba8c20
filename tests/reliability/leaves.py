"""Every leaf of the recipe: a run resumed with another value is the run that has that value from the start."""

import json
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import trials
import worlds
import yaml
from trials import Outcome, Tally

from unlearnkit.plugins import discover
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import Section, kind_of
from unlearnkit.recipe.validate import recipe_class

MODEL: Mapping[str, Any] = {
    "image_size": 16, "patch_size": 4, "width": 16, "depth": 1, "heads": 2,
    "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2,
}  # fmt: skip
TINY: Mapping[str, Any] = {
    "name": "leaf",
    "seed": 5,
    "model": {"kind": "vit-mae", **MODEL},
    "data": {
        "source": {"kind": "image-folder", "root": "pictures"},
        "forget": {"classes": ["red"]},
        "retain": {"classes": ["blue"]},
        "per_class": {"train": 8, "validation": 3},
    },
    "epsilons": {"fractions": [0.25, 0.75]},
    "sweep": {"kind": "independent"},
    "training": {
        "optimizer": {"kind": "adamw", "lr": 3e-3}, "batch_size": 4, "steps": 8, "checks": 1, "checkpoint_every": 4,
        "device": "cpu",
    },
    "evaluate": {"metrics": [{"kind": "hidden-psnr"}], "images": 1, "stops": 1},
}  # fmt: skip

NETWORK = {"kind": "module", "weights": "a/network.pt2", "size": 16}
SEEDS = (5, 6, 7, 8)
"""Tried in turn, for with some of them the few steps find no range of ε."""
MANIFEST = {"kind": "manifest", "path": "a/pictures/list.csv"}
NEEDED: Mapping[str, Mapping[str, Any]] = {
    "VitMae": MODEL,
    "Look": {"images": 4},
    "ULiRA": {"shadows": 4, "steps": 8},
    "Pix2Pix": {"image_size": 16, "width": 4, "depth": 2},
    "ConvAutoencoder": {"image_size": 16, "channels": [4, 8], "latent_channels": 4},
    "Manifest": {"path": "a/pictures/list.csv", "file": "file", "label": "label", "split": "split"},
    "ImageFolder": {"root": "pictures"},
    "Cifar10": {"root": "a/cifar"},
    "Stl10": {"root": "a/stl"},
    "Places365": {"root": "a/places"},
    "HuggingFace": {"path": "a/saved"},
    "WebDataset": {"shards": "a/shards/train.tar", "validation": "a/shards/held.tar", "label": "cls"},
    "Poisoned": {"source": {"kind": "image-folder", "root": "pictures"}},
    "NoiseEmbedding": {"samples": 16},
    "NoiseOutput": {"samples": 16},
    "TargetEmbedding": {"target": {"kind": "noise"}},
    "TargetOutput": {"target": {"kind": "noise"}},
    "SurrogateImage": {"path": "a/surrogate.png"},
    "HeldOut": {"root": "a/pictures"},
    "ReGUn": {"target": {"kind": "held-out", "root": "a/pictures"}},
    "SurrogateClass": {"name": "blue"},
    "Retrained": {"weights": "a/model.safetensors"},
    "Decoupling": {"distance": 9.0, "sensitivity": 1e-3},
    "Lagrangian": {"epsilon": 1e-3},
    "SGD": {"lr": 1e-2},
    "FreshDecoder": {"steps": 4},
    "Relearning": {"steps": 4, "every": 2},
    "Adversarial": {"steps": 2},
    "ExportedModule": NETWORK,
    "FeatureDistance": {"extractor": NETWORK},
    "FID": {"extractor": NETWORK, "few": True},
    "KID": {"extractor": NETWORK},
    "InceptionScore": {"extractor": {"kind": "mobilenet-v2", "features": 1280, "size": 32}, "splits": 2},
    "CopySimilarity": {"extractor": NETWORK},
    "LPIPS": {"network": "squeeze", "weights": "a/squeeze.pth", "size": 32},
    "Continuation": {"direction": "tighten"},
    "Epsilon": {"fraction": 0.5},
    "Score": {"at_most": 5.5},
    "RetainCost": {"at_most": 0.01},
    "Audited": {"audit": {"kind": "membership"}, "figure": "members", "at_least": 0.6},
    "Limit": {"figure": "f2", "at_most": 1.0},
    "RandomTokens": {"token": 4},
    "Blurred": {"sigma": 2.0},
    "MobileNetV2": {"size": 32},
    "Lora": {"rank": 2},
}
"""What a section is given beside its kind, so that it works on the tiny recipe."""


CLASSES: Mapping[str, Sequence[str]] = {
    "Sample": ("faces", "airplanes"),
    "Cifar10": ("truck", "airplane", "automobile"),
    "Stl10": ("truck", "airplane"),
    "Places365": ("zoo", "airfield"),
    "WebDataset": ("red", "green"),
}
"""Of a source with other classes than the tiny one: what is forgotten, and what is retained."""
AROUND: Mapping[str, Mapping[str, Any]] = {
    "Inception": {"evaluate": {"train": False}},
    "Poisoned": {"evaluate": {"audits": [{"kind": "backdoor"}]}},
    "SurrogateClass": {"data": {"retain": {"classes": ["blue", "green"]}}},
    "NearRetrained": {"compare": [{"kind": "retrain"}]},
    "Relative": {"compare": [{"kind": "retrain"}]},
    "Backdoor": {"data": {"source": {"kind": "poisoned", **NEEDED["Poisoned"]}}},
}
"""What else a recipe needs where a section of a class is in it."""


class Sets(dict[str, Any]):
    """Values of several fields of one section that have to change together; one that starts with / is of the recipe."""


OTHER_METRIC = Sets({"metric": "psnr", "/evaluate.metrics": [{"kind": "hidden-psnr"}, {"kind": "psnr"}]})

WHOLE = {"kind": "reconstruction"}
"""What goes with pairs."""
CHANGED: Mapping[str, Any] = {
    "Recipe.name": "other", "Recipe.seed": 4, "Recipe.seeds": [4, 5],
    "Recipe.vary": Sets(vary={"training.steps": [6, 12]}),
    "ModelSection.weights": "b/model.safetensors", "Pix2Pix.weights": "b/pix2pix.safetensors",
    "Lora.rank": 3, "Lora.targets": ["fc1"],
    "VitMae.image_size": 20, "VitMae.patch_size": 2, "VitMae.width": 8, "VitMae.depth": 2, "VitMae.heads": 4,
    "VitMae.decoder_width": 8, "VitMae.decoder_depth": 2, "VitMae.decoder_heads": 4,
    "Pix2Pix.image_size": 20, "Pix2Pix.width": 8, "Pix2Pix.depth": 3, "Sample.name": "objects-128",
    "ConvAutoencoder.image_size": 20, "ConvAutoencoder.channels": [4, 4], "ConvAutoencoder.latent_channels": 6,
    "ConvAutoencoder.weights": "b/conv.safetensors",
    "Data.seed": 9, "Data.memory_mib": 0, "Data.workers": 0,
    "ImageFolder.root": "a/pictures", "Manifest.path": "b/pictures/list.csv", "Manifest.file": "other",
    "ImageFolder.targets": Sets({"root": "a/pictures", "targets": "b/pictures", "/task": WHOLE}),
    "Manifest.target": Sets({"target": "other", "/task": WHOLE}),
    "_Pairs.side_by_side": Sets({"side_by_side": "left-to-right", "enlarge": True, "/task": WHOLE}),
    "Manifest.label": "colour", "Manifest.split": "part", "Cifar10.root": "b/cifar", "Stl10.root": "b/stl",
    "Places365.root": "b/places", "WebDataset.shards": "b/shards/train.tar", "WebDataset.validation": None,
    "WebDataset.label": "json.other",
    "Poisoned.classes": ["red"], "Poisoned.fraction": 0.5, "Poisoned.trigger": 0.5, "Poisoned.target": 0.25,
    "Poisoned.pairs": Sets({"pairs": True, "/task": WHOLE}),
    "Selection.classes": {"forget": ["green"], "retain": ["green"]},
    "Selection.files": {"forget": Sets(classes=None, files="a/forgotten.txt"),
                        "retain": Sets(classes=None, files="a/retained.txt")},
    "Selection.where": {"forget": Sets({"classes": None, "where": {"label": "green"}, "/data.source": MANIFEST}),
                        "retain": Sets({"classes": None, "where": {"label": "green"}, "/data.source": MANIFEST})},
    "Selection.draw": {"forget": Sets({"classes": None, "draw": 1, "/data.retain": {}}),
                       "retain": Sets(classes=["green", "blue"], draw=2)},
    "Selection.fraction": Sets(fraction=0.75, per_class={"train": 4, "validation": 2}),
    "PerClass.train": 6, "PerClass.validation": 2,
    "CenterCrop.ratio": 0.25, "CenterCrop.pixels": Sets(ratio=None, pixels=4), "RandomBox.low": 0.25,
    "RandomBox.high": 0.75, "RandomTokens.ratio": 0.5, "RandomTokens.token": 8, "Brush.strokes": [2, 2],
    "Brush.vertices": [3, 5], "Brush.width": [0.1, 0.2], "Brush.box": [0.3, 0.5], "Outpainting.border": 0.25,
    "Downscaling.factor": 2,
    "_Noise.region": "image", "_Target.region": "image", "_Noise.noise": "identity", "Noise.distribution": "identity",
    "NoiseEmbedding.samples": 32, "NoiseOutput.samples": 32, "SurrogateClass.name": "green",
    "HeldOut.root": "b/pictures", "HeldOut.count": 2,
    "SurrogateImage.path": "b/surrogate.png", "Blurred.sigma": 3.0, "Retrained.weights": "b/model.safetensors",
    "GradientNorm.alpha": 20.0, "GradientNorm.delta": 1.0, "ConstraintGap.beta": 2.0, "ConstraintGap.delta": 2.0,
    "RelativeGap.beta": 2.0, "RelativeGap.delta": 2.0, "Averaged.average": 0.5, "Averaged.trim": 0.0,
    "ProportionalIntegral.proportional": 10.0, "ProportionalIntegral.integral": 2.0,
    "ProportionalIntegral.loss_average": 0.25,
    "Epsilons.fractions": [0.25, 0.5], "Epsilons.values": Sets(fractions=None, values=[0.0345]),
    "Continuation.budget": 0.5, "Curve.degree": 1, "Curve.budget": 1.0, "Curve.polish": 4, "Evaluate.stops": 2,
    "TargetSection.polish": 4, "Epsilon.value": Sets(fraction=None, value=0.0345), "Epsilon.fraction": 0.75,
    "Score.metric": OTHER_METRIC, "RetainCost.metric": OTHER_METRIC, "Unseen.metric": OTHER_METRIC,
    "NearRetrained.metric": OTHER_METRIC, "Membership.figure": "tpr",
    "Score.at_most": 5.6, "Score.at_least": Sets(at_most=None, at_least=5.0), "RetainCost.at_most": 0.02,
    "Audited.figure": "others", "Audited.at_most": Sets(at_least=None, at_most=0.7), "Audited.at_least": 0.61,
    "Training.batch_size": 3, "Training.epochs": Sets(steps=None, epochs=1.0), "Training.steps": 12,
    "Training.shards": 2, "Training.look": {"images": 5}, "Look.images": 5, "Training.decay": 0.25,
    "Training.checks": 2, "Training.checkpoint_every": 1,
    "Training.crop": 0.5, "Training.device": "auto", "AdamW.lr": 2e-3, "AdamW.betas": [0.8, 0.9],
    "AdamW.weight_decay": 0.1,
    "SGD.lr": 1e-3, "SGD.momentum": 0.5, "Cache.memory_mib": 0, "Cache.disk_mib": 0, "Cache.shared": "frozen",
    "Composite.alpha": [0.25, 1.0], "MaxLoss.alpha": 0.5, "NoisyLabel.alpha": 0.5, "RetainLabel.alpha": 0.5,
    "SalUn.alpha": 0.5, "SalUn.salient": 0.25, "ReGUn.alpha": 0.5, "RestrictedGradient.alpha": 2.0,
    "RandomEncoder.alpha": 0.5, "NegGradPlus.beta": 0.9, "Retrain.budget": 2.0, "Retrain.original_steps": 30,
    "Retrain.seed": 5, "Undo.alpha": 0.25, "Undo.budget": 2.0, "Undo.seed": 5, "Decoupling.distance": 4.0,
    "Decoupling.ascent": 0.5, "Decoupling.sensitivity": 2e-3, "Decoupling.epsilon": 2.0, "Decoupling.delta": 1e-4,
    "Cup.intensity": 0.25, "Eupmu.tolerance": 0.1, "Eupmu.rate": 0.05, "Hamu.quota": 1e-3, "Lur.lookahead": 0.2,
    "Lur.alpha": 0.5, "Siss.share": 0.2, "CaGrad.c": 0.25, "Lagrangian.epsilon": 2e-3, "Lagrangian.rate": 0.1,
    "Limit.figure": "f1", "Limit.at_least": 0.5, "Limit.at_most": 0.001,
    "Evaluate.images": 2, "LPIPS.network": Sets(network="alex", weights="a/alex.pth", size=64),
    "LPIPS.weights": "b/squeeze.pth", "LPIPS.size": 48, "MobileNetV2.size": 64, "ExportedModule.weights":
    "b/network.pt2", "ExportedModule.size": 20, "ExportedModule.mean": [0.5, 0.5, 0.5],
    "ExportedModule.std": [0.5, 0.5, 0.5], "InceptionScore.splits": 1, "Membership.views": 2,
    "FreshDecoder.steps": 6, "Relearning.images": ["forget"], "Relearning.recovered": 0.5, "Relearning.steps": 6,
    "Relearning.every": 1, "Layers.layers": 1, "TwoPoints.other": "boundary-highest", "TwoPoints.beyond": [0.5],
    "Quantised.bits": [6], "Adversarial.steps": 3, "Adversarial.bound": 0.1,
    "Adversarial.images": 2, "RetainLeakage.views": 2, "ULiRA.shadows": 6, "ULiRA.steps": 9, "ULiRA.views": 2,
}  # fmt: skip
"""Another value of each leaf whose type does not tell one: of a switch or a word it is the other one, or the next."""
REFUSED = dict.fromkeys(("seeds", "vary"), "the run began without")
"""What a run cannot be resumed with, and what is said."""
LEFT: Mapping[str, str] = {
    r"hugging-face": "needs `datasets`, which is not installed here",
    r"weights \(.*(mobilenet-v2|inception)\)": "there is one file with its SHA-256",
    r"compile": "a minute and more for each of four runs",
    r"(boundary|lowest)( |.*-gap)": "phase 1 has no ε, without which gradient-norm alone works",
    r"(target-embedding|composite|cup|eupmu|lur|pcgrad|cagrad|lagrangian), retrained":
        "embeddings of another model are refused",
    r"inception-score, (module|inception)": "has no classifier here",
    r"^model\.train(\.targets)? \(pix2pix": "so small that adapters of rank 8 would be larger than its layers",
    r"low-resolution": "needs a model whose outputs are larger, which plugins bring",
    r"siss": "needs a diffusion model, which plugins bring",
    r"^data\.(forget|retain)\.source\S*\.(target|targets|side_by_side) ": "pairs in one of two sources are refused",
    r"^epsilons\S* \((membership|audit), "
    r"(fresh-decoder|relearning|copy-similarity|backdoor|relative|layers|quantised|adversarial|two-points"
    r"|retain-leakage|u-lira)":
        "has no such figure",
    r"^epsilons\S*audit \((membership|audit), membership\)": "no other audit has its figures",
}  # fmt: skip
"""By what is found in a leaf's line: what is not tried, and why."""


@dataclass(frozen=True)
class Leaf:
    """A place in the recipe, with the sections on the way to it."""

    path: tuple[str | int, ...]
    way: tuple[tuple[tuple[str | int, ...], type[Section]], ...]
    owner: type[Section]
    name: str
    """The field, or `kind` where another kind of section takes the place of the owner's."""
    others: tuple[type[Section], ...] = ()
    """For `kind`: all that may stand there."""

    @property
    def said(self) -> str:
        """Path and kinds in one line."""
        kinds = [kind_of(cls) for _, cls in self.way if "kind" in cls.model_fields]
        return f"{dotted(self.path)} ({', '.join(kinds)})" if kinds else dotted(self.path)


def dotted(path: Sequence[str | int]) -> str:
    """Return a path as `--set` takes it."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def leaves(cls: type[Section], path: tuple[str | int, ...] = (), way: tuple[Any, ...] = ()) -> Iterator[Leaf]:
    """Yield all leaves of a section, those of every kind that may stand in it included."""
    for name, info in cls.model_fields.items():
        if name == "kind":
            continue
        kinds = sections_in(info.annotation)
        if not kinds or words_in(info.annotation):
            yield Leaf((*path, name), way, cls, name)
        if not kinds:
            continue
        place: tuple[str | int, ...] = (*path, name, 0) if is_list(info.annotation) else (*path, name)
        if len(kinds) > 1:
            first = next(filter(works, kinds))
            yield Leaf(place, (*way, (place, first)), first, "kind", tuple(kinds))
        for one in kinds:
            yield from leaves(one, place, (*way, (place, one)))


def sections_in(annotation: Any) -> list[type[Section]]:
    """Return the section classes that may stand in a field."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [cls for argument in get_args(annotation) for cls in sections_in(argument)]


def words_in(annotation: Any) -> list[str]:
    """Return the words that may stand in a field."""
    parts = (annotation, *get_args(annotation))
    return [word for part in parts if get_origin(part) is Literal for word in get_args(part)]


def is_list(annotation: Any) -> bool:
    """Tell whether a field holds a list of them."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(map(is_list, get_args(annotation)))
    return get_origin(annotation) is list


def whole_recipe() -> type[Recipe]:
    """Return the recipe with the sections of the built-in plugins."""
    return recipe_class(Recipe, discover(installed=False))


def left_out(leaf: Leaf) -> str | None:
    """Return why a leaf is not tried."""
    return next((why for words, why in LEFT.items() if re.search(words, leaf.said)), None)


def given(cls: type[Section]) -> dict[str, Any]:
    """Return a section of a class as a recipe has it."""
    kind = {"kind": kind_of(cls)} if "kind" in cls.model_fields else {}
    return {**kind, **NEEDED.get(cls.__name__, {})}


def put(document: dict[str, Any], path: Sequence[str | int], value: Any) -> None:
    """Set a place in a recipe, making the sections on the way."""
    inside: Any = document
    for step, after in pairwise(path):
        if isinstance(step, int):
            inside.extend([{}] * (step + 1 - len(inside)))
        elif not isinstance(inside.get(step), list if isinstance(after, int) else dict):
            inside[step] = [] if isinstance(after, int) else {}
        inside = inside[step]
    if isinstance(path[-1], int):
        inside[:] = [*inside[: path[-1]], value]
    else:
        inside[path[-1]] = value


def base_of(leaf: Leaf) -> dict[str, Any]:
    """Return a tiny recipe in which the leaf is used."""
    document = json.loads(json.dumps(TINY))
    for place, cls in leaf.way:
        there = inside(document, place)
        if not there or there.get("kind") != given(cls).get("kind"):
            put(document, place, given(cls))
        for section, fields in AROUND.get(cls.__name__, {}).items():
            document[section] = fields if isinstance(fields, list) else {**document.get(section, {}), **fields}
        if (classes := CLASSES.get(cls.__name__)) is not None:
            document["data"]["per_class"] = {"train": 4, "validation": 1} if cls.__name__ == "Sample" else {}
            parts = {"forget": [classes[0]], "retain": list(classes[1:])}
            for name in parts if place[1] == "source" else (place[1],):
                document["data"][name]["classes"] = parts[name]
    return document


def inside(document: Any, path: Sequence[str | int]) -> Any:
    """Return what a recipe has in a place, None where nothing stands."""
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def overrides_of(leaf: Leaf, document: Mapping[str, Any]) -> list[str]:
    """Return what `--set` changes the leaf to; raise `KeyError` for one whose other value nobody has given."""
    if leaf.name == "kind":
        there = inside(document, leaf.path)
        other = next(cls for cls in leaf.others if kind_of(cls) != there["kind"] and works(cls))
        return [f"{dotted(leaf.path)}={json.dumps(given(other))}"]
    value = other_value(leaf, inside(document, leaf.path))
    fields = value if isinstance(value, Sets) else {leaf.name: value}
    within = leaf.path[:-1]
    places = (name[1:] if name.startswith("/") else dotted((*within, name)) for name in fields)
    return [f"{place}={json.dumps(one)}" for place, one in zip(places, fields.values(), strict=True)]


def works(cls: type[Section]) -> bool:
    """Tell whether a kind can take another's place on the tiny recipe's data, and soon."""
    return cls.__name__ not in (
        "Sample", "Cifar10", "Stl10", "Places365", "HuggingFace", "WebDataset", "Inception", "Siss", "Backdoor",
    )  # fmt: skip


def other_value(leaf: Leaf, now: Any) -> Any:
    """Return another value of a leaf than the one it has."""
    for cls in leaf.owner.__mro__:
        if (key := f"{cls.__name__}.{leaf.name}") in CHANGED:
            value = CHANGED[key]
            if isinstance(value, dict) and not isinstance(value, Sets):
                value = value[next(str(step) for step in leaf.path if step in value)]
            return value
    info = leaf.owner.model_fields[leaf.name]
    now = info.get_default(call_default_factory=True) if now is None else now
    if info.annotation is bool:
        return not now
    if words := words_in(info.annotation):
        # None stands for the first or the second of them, according to the model: the last one is another.
        return next(word for word in reversed(words) if word != now)
    raise KeyError(f"{leaf.owner.__name__}.{leaf.name}: give another value of it in CHANGED")


SAMPLE = (
    "seed", "seeds", "data.per_class.train", "task (center-crop)", "forget.samples (noise-embedding)",
    "control.epsilon.beta (relative-gap)", "epsilons.fractions", "sweep (independent)",
    "sweep.degree (curve)", "epsilons.targets[0].fraction (epsilon)",
    "training.optimizer.lr (adamw)", "compare[0].alpha (composite)", "evaluate.audits[0].steps (relearning)",
)  # fmt: skip
"""What the test suite tries."""


def trials_of(folder: Path, large: bool) -> Iterator[Tally]:
    """Resume finished and half-finished runs with each leaf changed."""
    worlds_built = trials.command("plugins", cwd=folder, before=partial(worlds.build, folder))
    assert worlds_built.code == 0, worlds_built.told
    finished, half = Tally("leaves changed on a finished run"), Tally("leaves changed on a half-finished run")
    every, left = [], set()
    for leaf in leaves(whole_recipe()):
        if (why := left_out(leaf)) is None:
            every.append(leaf)
        else:
            left.add((leaf.said, why))
    tried = every if large else [leaf for leaf in every if leaf.said in SAMPLE]
    by_base: dict[str, list[Leaf]] = {}
    for leaf in tried:
        by_base.setdefault(json.dumps(base_of(leaf), sort_keys=True), []).append(leaf)
    for document, sharing in by_base.items():
        _base(folder, json.loads(document), sharing, finished, half)
    finished.note = half.note = f"{len(tried)} of {len(every) + len(left)} leaves, {len(by_base)} base recipes"
    yield finished
    yield half
    yield _certificates(folder)
    if large:
        yield Tally("leaves that are not tried", len(left), note="; ".join(sorted({why for _, why in left})))


def _base(folder: Path, document: dict[str, Any], sharing: list[Leaf], finished: Tally, half: Tally) -> None:
    recipe = folder / "leaf.yaml"
    done, stopped = (folder / name for name in ("done", "stopped"))
    for seed in SEEDS:
        recipe.write_text(yaml.safe_dump({**document, "seed": seed}))
        first = trials.run(recipe, trials.cleared(done), before=prepared)
        if first.code != 6:
            break
    killed = trials.killed_before(stopped, "solutions/epsilon", 2)
    middle = trials.run(recipe, trials.cleared(stopped), before=lambda: (prepared(), killed()))
    if first.code or middle.code != -9:
        for leaf in sharing:
            finished.check(False, f"{leaf.said}: its base does not run: {first.told} | {middle.told}")
        return
    for leaf in sharing:
        overrides = overrides_of(leaf, document)
        wanted = trials.run(recipe, trials.cleared(folder / "wanted"), *overrides, before=prepared)
        for tally, before in ((finished, done), (half, stopped)):
            copy = trials.fresh(before, folder / "resumed")
            whole = trials.whole(copy)
            resumed = trials.command("resume", copy, *trials.sets(overrides), cwd=folder, before=prepared)
            said = refusal(leaf, resumed, whole, trials.whole(copy)) if leaf.said in REFUSED else ""
            if not said and leaf.said not in REFUSED:
                said = alike(folder, wanted, resumed)
            tally.check(not said, f"{leaf.said}, {' '.join(overrides)}: {said}")


def prepared() -> None:
    """Leave out reports, which are most of a tiny run's time, and the checksums of published data sets."""
    import torchvision.datasets as published

    from unlearnkit.run import runner

    for module in ("cifar", "stl10", "places365"):
        getattr(published, module).check_integrity = lambda path, md5=None: Path(path).is_file()
    if hasattr(runner, "write_report"):
        runner.write_report = lambda folder: []


def alike(folder: Path, wanted: Outcome, resumed: Outcome) -> str:
    """Say where a resumed run is not the one that had the value from the start."""
    if wanted.code not in (0, 6) or wanted.code != resumed.code:  # without a range of ε it ends alike, with 6
        return f"from the start {wanted.told} | resumed {resumed.told}"
    kept = ("solutions/", "results.json", "images/")
    one, other = (
        {name: data for name, data in trials.whole(folder / place).items() if name.startswith(kept)}
        for place in ("wanted", "resumed")
    )
    if wanted.code == 6:  # what it had solved before is still there, for it never came to its end
        other = {name: data for name, data in other.items() if name in one}
    return ", ".join(trials.differing(one, other)[:8])


def refusal(leaf: Leaf, resumed: Outcome, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    """Say what is wrong with a refusal."""
    if resumed.code not in (3, 7) or "Traceback" in resumed.err:
        return resumed.told
    return f"changed {trials.differing(before, after)}" if before != after else ""


CERTIFIED = ("epsilons.fractions=[0.05, 0.6]", "training.optimizer.lr=1.0e-3", "task={kind: half}")
"""Changes after which an exported card is held against its weights."""


def _certificates(folder: Path) -> Tally:
    """Export what was solved again, and compute f1 of the exported weights anew."""
    tally = Tally("cards of what was solved again, f1 computed from the exported weights")
    recipe = folder / "leaf.yaml"
    recipe.write_text(yaml.safe_dump(dict(TINY)))
    done = trials.cleared(folder / "done")
    assert (first := trials.run(recipe, done, before=prepared)).code == 0, first.told
    for change in CERTIFIED:
        copy = trials.fresh(done, folder / "resumed")
        resumed = trials.command("resume", copy, "--set", change, cwd=folder, before=prepared)
        if not tally.check(resumed.code == 0, f"{change}: {resumed.told}"):
            continue
        rows = [row for row in json.loads((copy / "results.json").read_text())["solutions"] if row["phase"] == 2]
        for row in rows:
            out = trials.cleared(folder / "out")
            exported = trials.command("export", copy, "--epsilon", row["id"], "--to", out, cwd=folder)
            found = folder / "f1.json"
            found.unlink(missing_ok=True)
            measured = trials.command("plugins", cwd=folder, before=partial(_measure, recipe, change, out, found))
            if not found.exists():
                tally.check(False, f"{change}, {row['id']}: {exported.told} | {measured.told}")
                continue
            f1 = json.loads(found.read_text())
            gap, card = (f1 - row["epsilon"]) / abs(row["epsilon"]), (out / "README.md").read_text()
            near = abs(f1 - row["f1"]) <= 1e-6 * abs(f1) and abs(gap - row["gap"]) <= 1e-6
            holds = near and f"{row['f1']:.6g}" in card and f"{row['epsilon']:.6g}" in card
            tally.check(holds, f"{change}, {row['id']}: f1 {row['f1']}, gap {row['gap']}; found {f1}, {gap}")
    return tally


def _measure(recipe: Path, change: str, exported: Path, to: Path) -> None:
    """Write f1 of an exported model on the whole forget set."""
    from unlearnkit.recipe.validate import load
    from unlearnkit.solver.workbench import build

    found = load(recipe, discover(), (change,)).recipe
    bench = build(found, recipe.parent)
    [weights] = exported.glob("*.safetensors")
    bench.student.module.load_state_dict(found.model.build(weights).module.state_dict())
    to.write_text(json.dumps(bench.sides["forget"].exact()))
