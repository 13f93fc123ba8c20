"""The moving average that a training may store."""

import torch
from safetensors.torch import load_file
from tiny_task import MODEL

from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.run.pretrain import rate, train

RECIPE = f"""\
name: small
{MODEL}\
data: {{source: {{kind: image-folder, root: pictures}}}}
tasks: [{{kind: center-crop}}]
pretrain: {{steps: STEPS, batch_size: 8, device: cpu, average: AVERAGE}}
"""


def weights(folder, steps, average):
    path = folder / f"small-{steps}-{average}.yaml"
    path.write_text(RECIPE.replace("STEPS", str(steps)).replace("AVERAGE", str(average)))
    recipe = load(path, discover()).recipe
    train(recipe, {}, folder, folder / path.stem, lambda step, figures: None)
    return load_file(folder / path.stem / "model.safetensors")


def test_what_is_stored_is_the_moving_average_of_the_weights(tiny):
    """After one step it is (1 + 0)/(10 + 0) of the start and the rest of the first step's weights."""
    folder = tiny.parent
    last, averaged = (weights(folder, 1, average) for average in (0, 0.9))
    recipe = load(folder / "small-1-0.yaml", discover()).recipe
    torch.manual_seed(recipe.seed)
    start = recipe.model.build(None).module.state_dict()
    for name, found in averaged.items():
        torch.testing.assert_close(found, 0.1 * start[name] + 0.9 * last[name], rtol=0, atol=1e-6)
    assert any((last[name] != start[name]).any() for name in last)


def test_the_learning_rate_rises_to_that_of_the_recipe_and_falls():
    for steps in (1, 2, 21, 30, 50, 110, 1000):
        rates = [rate(step, steps, 0.05) for step in range(steps)]
        top = rates.index(max(rates))
        assert max(rates) <= 1
        assert rates[: top + 1] == sorted(rates[: top + 1])
        assert rates[top:] == sorted(rates[top:], reverse=True)
