"""What `--executor` names, as a section of a plugin."""

import json

import yaml
from pydantic import ValidationError

from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.assemble import Offer
from unlearnkit.recipe.explain import explain, guess
from unlearnkit.recipe.problem import dotted
from unlearnkit.recipe.sections import ExecutorSection, kind_of

SERIAL = "serial"
"""The process of the command, one task after the other, which needs no executor."""


def executor(text: str, offer: Offer) -> ExecutorSection | None:
    """Return the executor of a text such as `processes:workers=4`; raise `UserError` for one that there is not."""
    name, _, rest = text.partition(":")
    if name == SERIAL:
        if rest:
            raise UserError(f"--executor: {SERIAL} takes no settings, got '{rest}'; write {SERIAL}", Exit.USAGE)
        return None
    kinds = {kind_of(cls): cls for cls in offer.sections if issubclass(cls, ExecutorSection)}
    if name not in kinds:
        meant = f"did you mean '{near}'? " if (near := guess(name, [SERIAL, *kinds])) else ""
        raise UserError(f"--executor: unknown '{name}'; {meant}there are: {', '.join([SERIAL, *kinds])}", Exit.USAGE)
    data: dict[str, object] = {"kind": name}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"--executor: expected {name}:KEY=VALUE,..., got '{part}'", Exit.USAGE)
        try:
            data[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            data[key] = value
    try:
        return kinds[name].model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        first = explain(error.errors(include_url=False), kinds[name], data, ())[0]
        raise UserError(f"--executor: {name}.{dotted(first.loc)}: {first.message}", Exit.USAGE) from None
